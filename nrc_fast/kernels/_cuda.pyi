class Matrix:
    def __init__(self, data: int, rows: int, columns: int, row_stride: int, column_stride: int, dtype: int) -> None: ...

class GramRequest:
    def __init__(
        self,
        features: Matrix,
        *,
        gram: int = 0,
        column_sums: int = 0,
        unit_gram: int = 0,
        shift: int = 0,
        unit_rows_are_shifted: bool = False,
        targets: Matrix | None = None,
        target_shift: int = 0,
        cross: int = 0,
        target_gram: int = 0,
        target_sums: int = 0,
        precision: int = 0,
        rows_at_once: int = 0,
        counts: int = 0,
        totals: int = 0,
        skips_nonfinite: bool = False,
    ) -> None: ...

total_values: int
total_block_rows: int

def gram_workspace(request: GramRequest, device: int) -> int: ...
def gram(request: GramRequest, *, workspace: int, workspace_bytes: int, device: int, stream: int) -> None: ...

class ResidualRequest:
    def __init__(
        self,
        features: Matrix,
        basis: int,
        vectors: int,
        *,
        raw_sums: int = 0,
        unit_sums: int = 0,
        shift: int = 0,
        row_residuals: int = 0,
        row_energies: int = 0,
        double_precision: bool = False,
        expanded: int = 0,
        counts: int = 0,
    ) -> None: ...

def residual_workspace(request: ResidualRequest, device: int) -> int: ...
def residual(request: ResidualRequest, *, workspace: int, workspace_bytes: int, device: int, stream: int) -> None: ...

class ProductRequest:
    def __init__(
        self, features: Matrix, vectors: int, count: int, *, rows_at_once: int = 0, counts: int = 0
    ) -> None: ...

def gram_product_workspace(request: ProductRequest, device: int) -> int: ...
def gram_product(
    request: ProductRequest,
    *,
    shift: int,
    image: int,
    column_sums: int,
    energy: int,
    workspace: int,
    workspace_bytes: int,
    device: int,
    stream: int,
) -> None: ...
def prediction_error_workspace(request: ProductRequest, device: int) -> int: ...
def prediction_error(
    request: ProductRequest,
    *,
    bias: int,
    targets: Matrix,
    errors: int,
    scale: float = 1.0,
    products: int = 0,
    workspace: int,
    workspace_bytes: int,
    device: int,
    stream: int,
) -> None: ...

class DescentRequest:
    def __init__(
        self,
        *,
        problems: int,
        d: int,
        n: int,
        stride: int,
        transforms: int,
        weights: int,
        biases: int,
        transform_velocities: int,
        weight_velocities: int,
        bias_velocities: int,
        moments: int,
        moment_index: int,
        rates: int,
        steps: int,
        double_precision: bool,
    ) -> None: ...

def descent_workspace(request: DescentRequest, device: int) -> int: ...
def descent(request: DescentRequest, *, workspace: int, workspace_bytes: int, device: int, stream: int) -> None: ...

ring_sums: int

def probe_product(rows: int, sums: int, *, dtype: int, columns: int, device: int, stream: int) -> None: ...
def probe_box(matrix: Matrix, *, column: int, row: int, box: int, device: int, stream: int) -> None: ...
def probe_ring(matrix: Matrix, *, sums: int, device: int, stream: int) -> None: ...
def allow_warpgroups(device: int, runs: bool) -> None: ...
def runs_warpgroups(device: int) -> bool: ...
def build_config() -> dict[str, object]: ...
def device_count() -> int: ...
def device_problem() -> str: ...
def device_name(device: int) -> str: ...
def device_capability(device: int) -> tuple[int, int]: ...
def multiprocessors(device: int) -> int: ...
def register_host_memory(address: int, size: int, device: int) -> str: ...
def unregister_host_memory(address: int, device: int) -> None: ...
