"""What is installed and shipped: the source distribution, builds beside each other, the settings of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]


def test_no_example_fails_because_the_machine_is_busy() -> None:
    assert settings().deadline is None
    assert settings().derandomize == bool(os.environ.get("CI"))


def test_two_installs_from_one_checkout_share_no_build_folder() -> None:
    reader = pytest.importorskip("scikit_build_core.settings.skbuild_read_settings")
    read = reader.SettingsReader.from_file(str(ROOT / "pyproject.toml"), {})
    assert read.settings.build_dir == ""  # each has a temporary one


def listed_files() -> list[str]:
    """What git knows of this tree, and what is new in it."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def source_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution of this tree."""
    pytest.importorskip("scikit_build_core")
    folder = tmp_path_factory.mktemp("sdist")
    checkout = folder / "checkout"
    for name in listed_files():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    code = f"from scikit_build_core.build import build_sdist; print(build_sdist({str(folder)!r}))"
    made = subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True, capture_output=True, text=True)
    name = made.stdout.split()[-1]
    with tarfile.open(folder / name) as archive:
        archive.extractall(folder, filter="data")
    return folder / name.removesuffix(".tar.gz")


def test_the_source_distribution_holds_every_file_but_those_of_ci(source_distribution: Path) -> None:
    listed = listed_files()
    assert {name for name in listed if not (source_distribution / name).is_file()} <= {".ci/run"}
    assert len(listed) > 200


@pytest.mark.long
def test_tests_of_the_source_distribution_pass_there(source_distribution: Path) -> None:
    """Those that read the repository's own files; the others read what is installed."""
    stems = ["bench", "import", "rooms", "stubs", "isa_symbols", "saved_states", "packaging"]
    pytest_command = Path(sys.executable).with_name("pytest")  # `python -m` would import the source tree
    command = [
        pytest_command,
        "-q",
        "-m",
        "not long",
        *(path for stem in stems for path in source_distribution.glob(f"tests/**/test_{stem}.py")),
    ]
    result = subprocess.run(command, cwd=source_distribution, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:]
