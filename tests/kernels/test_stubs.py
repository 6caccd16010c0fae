"""The hand-kept stubs of the compiled modules say what the modules say of themselves."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

import nrc_fast
from nrc_fast.kernels import _cpu
from nrc_fast.kernels.cuda import cards

Signature = dict[str, list[str]]


def signature_of(definition: ast.FunctionDef) -> Signature:
    """Names of the parameters in their order and kind, and their defaults."""
    arguments = definition.args
    names = [argument.arg for argument in arguments.args]
    if names[:1] == ["self"]:
        names = names[1:]
    return {
        "positional": names,
        "keyword": [argument.arg for argument in arguments.kwonlyargs],
        "defaults": [ast.unparse(value) for value in arguments.defaults],
        "keyword defaults": [ast.unparse(value) for value in arguments.kw_defaults if value is not None],
    }


def signature_from_docstring(docstring: str) -> Signature:
    """pybind11 writes the signature on the first line of every docstring."""
    (definition,) = ast.parse(f"def {docstring.splitlines()[0]}: ...").body
    assert isinstance(definition, ast.FunctionDef)
    return signature_of(definition)


def documented(module: ModuleType) -> dict[str, Signature]:
    found = {}
    for name, value in vars(module).items():
        if isinstance(value, type):
            for member, function in vars(value).items():
                if isinstance(function, property):
                    found[f"{name}.{member}"] = Signature()
                elif member == "__init__" and (function.__doc__ or "").startswith("__init__("):
                    found[f"{name}.__init__"] = signature_from_docstring(function.__doc__ or "")
        elif callable(value) and not name.startswith("_"):
            found[name] = signature_from_docstring(value.__doc__ or "")
    return found


def stubbed(name: str) -> dict[str, Signature]:
    stub = Path(nrc_fast.__file__).with_name("kernels") / f"{name}.pyi"
    found = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = signature_of(node)
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.Expr) or getattr(member, "name", "") == "__buffer__":
                    continue  # no members, or memory that is no method of the compiled class
                assert isinstance(member, ast.FunctionDef)
                found[f"{node.name}.{member.name}"] = Signature() if member.decorator_list else signature_of(member)
    return found


def test_stub_matches_the_compiled_module() -> None:
    assert stubbed("_cpu") == documented(_cpu)


@pytest.mark.skipif(cards.cuda_core() is None, reason="this build has no CUDA kernels")
def test_stub_matches_the_compiled_cuda_module() -> None:
    core = cards.cuda_core()
    assert core is not None
    assert stubbed("_cuda") == documented(core)
