"""What importing costs, what it does not do, and who may import whom."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nrc_fast

PACKAGE = Path(nrc_fast.__file__).parent

# From the bottom up: a module imports from modules to its left only.
LAYERS = [
    "testing",  # imports nothing, so that it can be trusted as a reference
    "libraries",
    *(
        "_cpu",
        "_cuda",
        "devices",
        "cuda_device",
        "blas_threads",
        "linalg",
        "conventions",
        "rows",
        "pass_results",
        "device_rows",
        "device_calls",
        "kernels",
        "stepping",
        "device_stepping",
        "sources.table",
        "sources.source",
        "sources.batches",
    ),
    *("sources.stored", "sources.blocks", "sources.compressed_npz", "sources.numpy_files", "sources.torch_files"),
    *("sources.safetensors_files", "sources.hdf5_files", "sources.zarr_arrays", "sources.parquet_files"),
    *(
        "sources.opening",
        "sources.dispatch",
        "sources",
        "distributed",
        "sums",
        "bounds",
        "checkpoint",
        "counts",
        "device_spectrum",
        "device_sums",
        "device_parts",
        "shifted_sums",
        "moments",
        "metrics",
        "alignment",
    ),
    *("progress", "plot"),
    *("ufm.inputs", "ufm.scaling", "ufm.targets", "ufm.spectral", "ufm.solution", "ufm.closed_form"),
    *("ufm.refine", "ufm.deep", "ufm.predict", "ufm.geometry", "ufm.stability", "ufm.start", "ufm.trajectory"),
    *("ufm.dynamics", "ufm.setup", "ufm.descent", "ufm"),
    *("reading", "passes", "components", "placing", "planning", "report"),
    *("collapse", "assembly", "measurement", "statistics", "integrations", "integrations.dask"),
    *("torch_device", "torch_gradients", "torch_library", "torch_ops"),
    *("evaluation", "layer_rows", "gathering", "hooks", "tap", "history", "monitor", "integrations.loggers"),
    *("deep_nrc", "class_bounds", "class_metrics", "class_device", "classification", "dimension"),
    *("integrations.on_use", "integrations.lightning", "integrations.transformers", "integrations.torchmetrics"),
    "integrations.sklearn",
    *("demo_runs", "demo_text", "demo", "diagnostics", "sweep", "selftest", "html", "commands"),
    *("cli", "__main__"),
]


def run_python(code: str, *options: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, cwd=cwd, check=False)


def test_import_is_lean(tmp_path: Path) -> None:
    code = (
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import nrc_fast\n"
        "found = {name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names\n"
        "print(*sorted(found))"
    )
    result = run_python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) <= {"nrc_fast", "numpy"}


def test_source_tree_that_was_not_built_says_so(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "nrc_fast", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    result = run_python("import nrc_fast", "-S", "-E", cwd=tmp_path)
    assert "source tree whose compiled core was not built" in result.stderr
    assert "pip install ." in result.stderr
    assert "circular" not in result.stderr


def test_no_module_is_named_like_a_public_function() -> None:
    modules = {module.name for module in pkgutil.iter_modules(nrc_fast.__path__)}
    assert not modules & set(nrc_fast.__all__)
    assert sorted(nrc_fast.__all__) == nrc_fast.__all__


def imported_modules(path: Path) -> set[str]:
    """Modules of the package that a file imports, without the package's own name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("nrc_fast"):
            stem = node.module.removeprefix("nrc_fast").lstrip(".")
            names = [".".join(filter(None, (stem, alias.name))) for alias in node.names]
            found |= {name if name in LAYERS else stem for name in names} - {""}
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name.removeprefix("nrc_fast.") for name in names if name.startswith("nrc_fast.")}
    return found


def test_imports_point_downward() -> None:
    paths = {
        str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    del paths["__init__"]
    assert set(paths) | {"_cpu", "_cuda"} == set(LAYERS) | {"testing"}
    assert imported_modules(paths.pop("testing")) == set()
    for name, path in paths.items():
        above = {other for other in imported_modules(path) if LAYERS.index(other) >= LAYERS.index(name)}
        assert not above, f"{name} imports {above}"


@pytest.mark.parametrize(
    "name", [module.name for module in pkgutil.walk_packages(nrc_fast.__path__, "nrc_fast.")] + ["nrc_fast"]
)
def test_examples_in_docstrings(name: str) -> None:
    if name == "nrc_fast.__main__":
        pytest.skip("runs the command line")
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_public_functions_have_an_example_and_say_what_they_raise() -> None:
    for module in (nrc_fast, nrc_fast.ufm):
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and not isinstance(value, type):
                assert ">>>" in value.__doc__, name
                assert re.search(r"Raises\n\s+------", value.__doc__), name


def test_example_in_the_readme() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    result = doctest.testfile(str(readme), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted >= 6
    assert result.failed == 0
