"""What importing costs, what it does not do, and that the examples in docstrings run."""

from __future__ import annotations

import ast
import doctest
import importlib
import pickle
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import nrc_fast
from nrc_fast import reports

PACKAGE = Path(nrc_fast.__file__).parent


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
    assert set(result.stdout.split()) <= {"nrc_fast", "numpy", "threadpoolctl"}


def test_source_tree_that_was_not_built_says_so(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "nrc_fast", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    result = run_python("import nrc_fast", "-E", cwd=tmp_path)
    assert "source tree whose compiled core was not built" in result.stderr
    assert "pip install ." in result.stderr
    assert "circular" not in result.stderr


def test_public_names_are_in_order() -> None:
    """Constants, classes, functions, each by the alphabet."""
    order = sorted(nrc_fast.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert order == nrc_fast.__all__


PUBLIC_MODULES = ("kernels", "reports", "typing", "ufm")
IMPORTED_BY_USERS = ("integrations", "testing", "torch_ops")


def test_dir_shows_public_names_and_no_others() -> None:
    for module in (nrc_fast, *(importlib.import_module(f"nrc_fast.{name}") for name in PUBLIC_MODULES)):
        extra = {"__version__", *PUBLIC_MODULES} if module is nrc_fast else set()
        assert set(dir(module)) - set(IMPORTED_BY_USERS) == set(module.__all__) | extra
        assert all(hasattr(module, name) for name in dir(module))
    importlib.import_module("nrc_fast.testing")
    assert "testing" in dir(nrc_fast)


@pytest.mark.parametrize("name", ["dask", "lightning", "loggers", "sklearn", "torchmetrics", "transformers"])
def test_dir_of_an_integration_shows_what_it_is_for(name: str) -> None:
    if name != "loggers":
        pytest.importorskip(name)
    module = importlib.import_module(f"nrc_fast.integrations.{name}")
    assert dir(module) == sorted(module.__all__)
    assert name in dir(importlib.import_module("nrc_fast.integrations"))


def examples(module: ModuleType) -> Iterator[doctest.DocTest]:
    """Of a module; doctest takes classes that name their face as their module for strangers in their own."""
    found = doctest.DocTestFinder().find(module)
    if hasattr(module, "__path__"):  # a face defines nothing
        found = [example for example in found if example.name == module.__name__]
    yield from found
    if not (module.__file__ or "").endswith(".py"):
        return
    for node in ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8")).body:
        value = getattr(module, node.name) if isinstance(node, ast.ClassDef) else None
        if value is not None and value.__module__ != module.__name__:
            # module=False: do not ask where the class and its methods come from.
            yield from doctest.DocTestFinder().find(value, module=False, globs=dict(vars(module)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [module.name for module in pkgutil.walk_packages(nrc_fast.__path__, "nrc_fast.")] + ["nrc_fast"]
)
def test_examples_in_docstrings(name: str) -> None:
    if name == "nrc_fast.__main__":
        pytest.skip("runs the command line")
    for example in examples(importlib.import_module(name)):
        assert doctest.DocTestRunner().run(example).failed == 0


def test_public_classes_name_the_first_face_that_hands_them_on() -> None:
    named = set()
    for face in (nrc_fast, nrc_fast.ufm, reports):
        for name in face.__all__:
            value = getattr(face, name)
            if isinstance(value, type) and value not in named:
                named.add(value)
                assert value.__module__ == face.__name__
                assert pickle.loads(pickle.dumps(value)) is value
    assert len(named) > 15


def test_public_functions_have_an_example_and_say_what_they_raise() -> None:
    for module in (nrc_fast, nrc_fast.ufm):
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and not isinstance(value, type):
                assert ">>>" in value.__doc__, name
                assert re.search(r"Raises\n\s+------", value.__doc__), name
