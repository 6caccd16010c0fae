from collections.abc import Sequence

class Matrix:
    def __init__(self, data: int, rows: int, columns: int, row_stride: int, column_stride: int, dtype: int) -> None: ...

class ReadableFile:
    def __init__(self, descriptor: int) -> None: ...
    @property
    def descriptor(self) -> int: ...

class RowCounts:
    @property
    def zero(self) -> int: ...
    @property
    def nonfinite(self) -> int: ...
    @property
    def first_nonfinite(self) -> int: ...
    @property
    def first_unread(self) -> int: ...
    @property
    def read_error(self) -> int: ...

class ResidualJob:
    def __init__(
        self,
        basis: int,
        vectors: int,
        raw_sums: int,
        unit_sums: int,
        shift: int = 0,
        row_residuals: int = 0,
        row_energies: int = 0,
    ) -> None: ...

def gram(
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
    double_precision: bool = False,
) -> RowCounts: ...
def residual(features: Matrix, jobs: Sequence[ResidualJob], double_precision: bool = False) -> RowCounts: ...
def gram_product(
    features: Matrix, *, shift: int, vectors: int, count: int, image: int, column_sums: int
) -> RowCounts: ...
def prediction_error(features: Matrix, *, weights: int, bias: int, targets: Matrix, errors: int) -> RowCounts: ...
def descent(
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
def matrix_in_file(file: int, offset: int, rows: int, columns: int, dtype: int) -> Matrix: ...
def release_pages(address: int, size: int) -> None: ...
def thread_count() -> int: ...
def set_thread_count(count: int) -> None: ...
def supported_isas() -> list[str]: ...
def current_isa() -> str: ...
def choose_isa(name: str) -> None: ...
def build_config() -> dict[str, object]: ...
