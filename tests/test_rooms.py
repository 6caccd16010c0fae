"""Which room imports which, what each keeps to itself, and that no name stands for two things."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SPECIFICATION = importlib.util.find_spec("nrc_fast")
assert SPECIFICATION is not None
assert SPECIFICATION.origin is not None
PACKAGE = Path(SPECIFICATION.origin).parent
TESTS = Path(__file__).parent

# What a file of a room may import besides its own room, from the bottom up; imports inside functions count the same.
BELOW_TRAINING = ("measurement", "passes", "ufm", "reports", "metrics", "sources", "kernels", "base")
ALLOWED: dict[str, tuple[str, ...]] = {
    "base": (),
    "testing": (),  # imports nothing else, so that it can be trusted as a reference
    "kernels": ("base",),
    "metrics": ("base",),
    "sources": ("kernels", "base"),
    "reports": ("metrics", "kernels", "base"),
    "passes": ("sources", "kernels", "metrics", "base"),
    "ufm": ("reports", "kernels", "metrics", "base"),
    "measurement": ("passes", "ufm", "reports", "metrics", "sources", "kernels", "base"),
    "training": BELOW_TRAINING,
    "torch_ops": ("measurement", "passes", "kernels", "metrics", "base"),
    "integrations": ("training", *BELOW_TRAINING),
    "cli": ("torch_ops", "training", *BELOW_TRAINING, "testing"),
}
ROOMS = list(ALLOWED)
# Parts of a room that its other rooms do not know.
INNER = ("nrc_fast.kernels.cuda", "nrc_fast.sources.formats")
APART = ({"nrc_fast.kernels.cpu", "nrc_fast.kernels.cuda"},)
# At the top, beside the rooms.
FACES = ("nrc_fast", "nrc_fast.__main__", "nrc_fast.typing")
MOST_LINES = 400
MOST_POSITIONAL = 5
# Functions whose arguments are of one kind, any number of them.
VARIADIC = {"_formula", "_norm", "_of", "max", "min", "os.path.join", "print", "zip"}

# Modules without a test of their stem in their room, by the test that covers them.
COVERED: dict[str, tuple[str, ...]] = {
    "metrics/test_turns.py": ("metrics/corrections.py",),
    "measurement/test_kept_rows.py": ("measurement/moments_and_rows.py",),
    "measurement/test_row_turns.py": ("measurement/projections.py",),
    "base/test_linalg.py": ("base/arrays.py", "base/json_values.py"),
    "cli/test_command_line.py": (
        "base/progress.py",
        "base/version.py",
        "cli/environment.py",
        "cli/features.py",
        "cli/health.py",
        "cli/inputs.py",
        "cli/outputs.py",
        "cli/printing.py",
    ),
    "cli/test_demo.py": ("cli/demo/laws.py", "cli/demo/settings.py", "cli/demo/text.py", "cli/demo/training.py"),
    "cli/test_sweeps.py": ("training/sweep.py",),
    "test_import.py": ("base/listing.py",),
    "integrations/test_trainings.py": (
        "integrations/lightning.py",
        "integrations/torchmetrics.py",
        "integrations/transformers.py",
        "training/monitor_options.py",
    ),
    "base/test_leading.py": ("base/vector_blocks.py",),
    "measurement/test_exact_targets.py": ("measurement/model_errors.py",),
    "kernels/cuda/test_matrices.py": ("base/symmetric.py",),
    "measurement/test_device_matrices.py": ("passes/settled_sums.py",),
    "kernels/cuda/test_gram.py": (
        "kernels/cuda/device.py",
        "kernels/cuda/launches.py",
        "kernels/cuda/rows.py",
    ),
    "kernels/test_backend.py": (
        "kernels/cpu/classes.py",
        "kernels/cpu/images.py",
        "kernels/cpu/rows.py",
        "kernels/cpu/sums.py",
        "kernels/cuda/results.py",
        "kernels/descent_state.py",
        "kernels/interface.py",
    ),
    "kernels/test_gram.py": ("kernels/calls.py", "kernels/errors.py", "kernels/results.py"),
    "kernels/test_inputs.py": ("kernels/arrays.py",),
    "kernels/test_isa.py": ("kernels/cpu/machine.py",),
    "kernels/test_target_sums.py": ("kernels/long_sums.py",),
    "kernels/test_threads.py": ("kernels/cpu/memory.py",),
    "measurement/test_alignment.py": ("measurement/head_and_targets.py",),
    "measurement/test_class_statistics.py": (
        "measurement/class_moments.py",
        "measurement/classes.py",
        "reports/classes.py",
    ),
    "measurement/test_device_statistics.py": (
        "kernels/cuda/classes.py",
        "kernels/cuda/copies.py",
        "kernels/cuda/spectrum.py",
        "kernels/cuda/sums.py",
        "kernels/placement.py",
        "sources/placed.py",
    ),
    "measurement/test_feature_statistics.py": (
        "measurement/moments_view.py",
        "measurement/spectrum_metrics.py",
        "passes/saved_sums.py",
        "passes/stored_sums.py",
        "kernels/counts.py",
        "measurement/convention_metrics.py",
        "passes/derived.py",
        "passes/moments.py",
        "passes/plain_targets.py",
        "reports/features.py",
    ),
    "measurement/test_evidence.py": ("measurement/found_basis.py",),
    "measurement/test_exact_components.py": ("measurement/exact_images.py", "measurement/few_rows.py"),
    "measurement/test_head_context.py": ("metrics/head_context.py",),
    "measurement/test_head_balances.py": ("measurement/balance_metrics.py",),
    "measurement/test_single_metrics.py": (
        "measurement/all_metrics.py",
        "measurement/explicit_metrics.py",
        "measurement/moment_metrics.py",
        "metrics/conventions.py",
    ),
    "passes/test_checkpoint.py": ("base/npz.py",),
    "passes/test_long_targets.py": ("passes/target_moments.py", "passes/team_sums.py"),
    "passes/test_component_costs.py": ("passes/memory_needs.py",),
    "passes/test_reading.py": (
        "passes/begin.py",
        "passes/runs.py",
        "passes/sums.py",
    ),
    "reports/test_comparisons.py": ("reports/compared.py",),
    "reports/test_head_context.py": ("reports/head_records.py", "reports/verdicts/heads.py"),
    "reports/test_history.py": ("reports/kept_steps.py", "reports/replay.py", "reports/steps.py"),
    "reports/test_pages.py": (
        "reports/glossary.py",
        "reports/page_sections.py",
        "reports/page_style.py",
        "reports/page_tables.py",
    ),
    "reports/test_plots.py": (
        "reports/plots/drawn.py",
        "reports/plots/features.py",
        "reports/plots/error_floors.py",
        "reports/plots/histories.py",
        "reports/plots/panels.py",
    ),
    "reports/test_verdicts.py": (
        "reports/affine.py",
        "reports/verdicts/balances.py",
        "reports/verdicts/classes.py",
        "reports/verdicts/features.py",
        "reports/verdicts/histories.py",
        "reports/verdicts/levels.py",
        "reports/verdicts/notes.py",
    ),
    "sources/formats/test_zarr_arrays.py": ("sources/formats/zarr_codecs.py",),
    "sources/test_table.py": ("sources/shards.py",),
    "test_testing.py": ("testing/features.py", "testing/heads.py", "testing/minima.py", "testing/rows.py"),
    "torch_ops/test_losses.py": ("torch_ops/gradients.py",),
    "torch_ops/test_operators.py": ("torch_ops/checks.py", "torch_ops/functions.py"),
    "training/test_gathering.py": ("kernels/held.py",),
    "training/test_layer_balance.py": ("reports/balances.py", "training/linear_chains.py"),
    "training/test_layer_rows.py": ("training/layer_axes.py",),
    "training/test_layers.py": ("measurement/layer_conditions.py",),
    "training/test_loggers.py": ("integrations/loggers.py",),
    "training/test_monitor.py": ("training/divergence.py", "training/head_batches.py", "training/head_evaluation.py"),
    "training/test_watching.py": (
        "training/hooks.py",
        "training/named_layers.py",
        "training/pass_mask.py",
        "training/watch_options.py",
        "training/watched_layers.py",
    ),
    "ufm/test_bounds.py": (
        "ufm/deep_bounds.py",
        "ufm/deep_floor_bounds.py",
        "ufm/floor_bounds.py",
        "ufm/minimum_bounds.py",
    ),
    "ufm/test_closed_form.py": ("metrics/prediction.py",),
    "ufm/test_convex_path.py": (
        "ufm/convex_kinks.py",
        "ufm/convex_minimum.py",
        "ufm/convex_newton.py",
        "ufm/convex_solver.py",
        "ufm/convex_targets.py",
    ),
    "ufm/test_descent.py": (
        "kernels/samples.py",
        "ufm/descent/dynamics.py",
        "ufm/descent/outcome.py",
        "ufm/descent/runs.py",
        "ufm/descent/setup.py",
        "ufm/descent/stability.py",
        "ufm/descent/start.py",
        "ufm/descent/trajectory.py",
    ),
    "ufm/test_error_floor.py": ("ufm/common_floor.py", "ufm/floor_text.py", "ufm/floors.py"),
    "ufm/test_minimum.py": ("ufm/rotations.py", "ufm/solution.py", "ufm/spectral.py", "ufm/targets.py"),
}


def module_name(path: Path) -> str:
    """Dotted name of a file."""
    return ".".join(["nrc_fast", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


@cache
def files() -> dict[str, Path]:
    """All modules of the package."""
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_module(name: str) -> bool:
    return (
        name in files()
        or (PACKAGE.parent / f"{name.replace('.', '/')}.pyi").is_file()
        or name.endswith("._cuda_emulation")
    )


def room(name: str) -> str:
    """The first folder of a module; empty for the package itself."""
    return [*name.split("."), ""][1]


def imported(node: ast.AST) -> Iterator[str]:
    """Modules of the package that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "nrc_fast")
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nrc_fast":
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            yield name if is_module(name) else str(node.module)


def arrows(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    return {name for node in ast.walk(tree(path)) for name in imported(node)}


def of_rooms() -> Iterator[tuple[str, Path]]:
    """Modules without the faces at the top."""
    yield from ((name, path) for name, path in files().items() if name not in FACES)


def short(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def upward() -> set[str]:
    return {
        f"{short(path)} -> {room(target) or 'nrc_fast'}"
        for name, path in of_rooms()
        for target in arrows(path)
        if room(target) not in (room(name), *ALLOWED[room(name)])
    }


def through_the_wall() -> set[str]:
    found = set()
    for name, path in of_rooms():
        for target in arrows(path):
            inner = [part for part in INNER if is_inside(target, part) and room(name) != room(part)]
            apart = any(
                is_inside(name, part) and any(is_inside(target, other) for other in parts - {part})
                for parts in APART
                for part in parts
            )
            if inner or apart:
                found.add(f"{short(path)} -> {target.removeprefix('nrc_fast.')}")
    return found


def inside_functions() -> set[str]:
    return {
        f"{short(path)} -> {target.removeprefix('nrc_fast.')}"
        for _, path in of_rooms()
        for function in ast.walk(tree(path))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        for target in imported(node)
    }


def names_in(path: Path) -> set[str]:
    """Names and attributes that a file uses, and what it imports."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found |= {node.name.rsplit(".", 1)[-1], node.asname or ""}
    return found


def called(path: Path) -> set[str]:
    """Functions that a file calls by their bare name."""
    return {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}


def know_the_backend() -> set[str]:
    words = {"_cpu", "_cuda", "DeviceRows", "is_cuda"}
    return {short(path) for name, path in of_rooms() if room(name) != "kernels" and names_in(path) & words}


def impure() -> set[str]:
    words = {"Rows", "open", "Path", "read_text", "write_text"}
    return {short(path) for name, path in of_rooms() if room(name) in ("metrics", "ufm") and names_in(path) & words}


def long() -> set[str]:
    return {short(path) for _, path in of_rooms() if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES}


def positional_arguments(call: ast.Call) -> int:
    """Those of a call without a name; what is unpacked counts by its elements where it is written out."""
    unpacked = (ast.List, ast.Set, ast.Tuple)
    return sum(
        len(value.value.elts) if isinstance(value, ast.Starred) and isinstance(value.value, unpacked) else 1
        for value in call.args
    )


def positional() -> set[str]:
    return {
        short(path)
        for path in files().values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and positional_arguments(node) > MOST_POSITIONAL
        and ast.unparse(node.func) not in VARIADIC
    }


def circles() -> list[str]:
    """Modules that import one another, each with the way back to itself."""
    graph = {name: {target for target in arrows(path) if target in files()} - {name} for name, path in of_rooms()}
    found = []
    for start, targets in graph.items():
        reached, waiting = set(), list(targets)
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += graph.get(name, ())
        if start in reached:
            found.append(start)
    return found


def public_names(path: Path) -> set[str]:
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_every_file_lies_in_a_room() -> None:
    assert {room(name) for name, _ in of_rooms()} == set(ROOMS)
    entries = [path for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "data", "py.typed")]
    assert len(entries) <= len(ROOMS) + len(FACES)


def test_rooms_import_what_their_row_names() -> None:
    assert not upward()


def test_inner_parts_are_known_to_their_room_only() -> None:
    assert not through_the_wall()


def test_no_import_inside_a_function_is_of_this_package() -> None:
    assert not inside_functions()


def test_backends_are_known_to_the_kernels_only() -> None:
    assert not know_the_backend()


def test_metrics_and_the_model_are_pure() -> None:
    assert not impure()


def test_one_place_makes_the_first_pass() -> None:
    """So that moments which were read again in float64 are remembered."""
    assert {short(path) for name, path in of_rooms() if "gather" in called(path)} == {"measurement/evidence.py"}


def test_no_circles() -> None:
    assert circles() == []


def test_no_module_is_named_like_a_public_function() -> None:
    for name in files():
        parts = name.split(".")
        above = [files().get(".".join(parts[:size])) for size in range(1, len(parts))]
        taken = {public for path in above if path is not None for public in public_names(path)}
        assert parts[-1] not in taken, name


def test_every_package_is_a_face() -> None:
    for name, path in files().items():
        if path.name != "__init__.py" and name != "nrc_fast.typing":
            continue
        assert len(path.read_text(encoding="utf-8").splitlines()) < (110 if name == "nrc_fast" else 60), name
        for node in tree(path).body:
            is_plain = isinstance(node, (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr))
            assert is_plain, f"{name} does more than hand names on"


def test_modules_are_short() -> None:
    assert not long()


def test_calls_name_their_arguments() -> None:
    assert not positional()
    written = {"f(1, *(2, 3), 4, *rest, 5)": 6, "f(*(1, *(2, 3)), x=4)": 2, "f(*[1, 2, 3])": 3}
    for text, count in written.items():
        (call,) = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
        assert positional_arguments(call) == count


def test_contributing_names_every_room() -> None:
    text = (TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `nrc_fast/(\w+)(?:/|\.py)` \|", text, re.MULTILINE) == ROOMS[::-1]


def test_every_module_has_a_test() -> None:
    """One of its stem in its room, or one that is named above."""
    covered = [module for modules in COVERED.values() for module in modules]
    assert len(covered) == len(set(covered))
    assert not [name for name in COVERED if not (TESTS / name).is_file()]
    has_own = set()
    for _, path in of_rooms():
        name = short(path)
        folder = TESTS / Path(name).parts[0] if "/" in name else TESTS
        if list(folder.rglob(f"test_{path.stem}.py")):
            has_own.add(name)
    modules = {short(path) for _, path in of_rooms() if path.name != "__init__.py"}
    assert modules - has_own == set(covered)
