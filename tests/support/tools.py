"""Compilers and other programs of a build, which CI must have and other machines may lack."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def must_be_complete() -> bool:
    """Whether what is missing fails a test: where CI asks for CUDA (NRC_FAST_CUDA=ON)."""
    return os.environ.get("NRC_FAST_CUDA") == "ON"


def require_tool(name: str) -> str:
    """The path of a program; without it the test fails in CI and is skipped elsewhere."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not on PATH"
        pytest.fail(message) if must_be_complete() else pytest.skip(message)
    return path


def require_module(name: str) -> Any:
    """A module that only builds need, with the same rule."""
    return importlib.import_module(name) if must_be_complete() else pytest.importorskip(name)


def configure_project(folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    """Run CMake on this project with the Python that runs the tests; settings are ``-DNAME=VALUE``."""
    given = {
        "SKBUILD_PROJECT_VERSION": "0.0.0",
        "CMAKE_BUILD_TYPE": "Release",
        "pybind11_DIR": require_module("pybind11").get_cmake_dir(),
        "Python_EXECUTABLE": sys.executable,
    }
    definitions = [f"-D{name}={value}" for name, value in given.items()]
    command = [require_tool("cmake"), "-S", str(ROOT), "-B", str(folder), *definitions, *settings]
    return subprocess.run(command, capture_output=True, text=True, check=False)
