"""What is installed and shipped: the source distribution, builds beside each other, the settings of the tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import settings

import nrc_fast as nrc
from nrc_fast import kernels

ROOT = Path(__file__).parents[1]


def test_no_example_fails_because_the_machine_is_busy() -> None:
    assert settings().deadline is None
    assert settings().derandomize == bool(os.environ.get("CI"))


def test_two_installs_from_one_checkout_share_no_build_folder() -> None:
    reader = pytest.importorskip("scikit_build_core.settings.skbuild_read_settings")
    read = reader.SettingsReader.from_file(str(ROOT / "pyproject.toml"), {})
    assert read.settings.build_dir == ""  # each has a temporary one


def found(pattern: str, name: str) -> list[str]:
    """What lines of a file of the repository say."""
    return re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)


def test_one_version_is_said_everywhere() -> None:
    newest = found(r"^## (.+)$", "CHANGELOG.md")[0]
    heading, date = re.findall(r"^\[(.+)\] - (.+)$", newest)[0]
    assert found(r"^version: (.+)$", "CITATION.cff") == [heading]
    assert found(r'^__version__ = "(.+)"$', "nrc_fast/base/version.py") == [heading] == [nrc.__version__]
    assert kernels.build_config()["version"] == heading
    # A date, in both, once there is such a release.
    assert found(r"^date-released: (.+)$", "CITATION.cff") == ([] if date == "unreleased" else [date])
    assert date == "unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", date)


def test_wheels_are_built_for_the_versions_that_the_classifiers_name() -> None:
    named = found(r'"Programming Language :: Python :: (3\.\d+)"', "pyproject.toml")
    (listed,) = found(r"^build = \[(.*)\]$", "pyproject.toml")
    built = re.findall(r'"cp3(\d+)-\*"', listed)
    assert named == [f"3.{minor}" for minor in built]
    assert found(r'^requires-python = ">=(.+)"$', "pyproject.toml") == named[:1]
    assert "cp314t-*" in listed


def test_workflows_name_what_they_use_by_digest() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    if not workflows:
        pytest.skip("needs a checkout")
    assert [path.name for path in workflows] == ["ci.yml", "wheels.yml"]
    versions: dict[str, set[str]] = {}
    for path in workflows:
        text = path.read_text(encoding="utf-8")
        used = re.findall(r"^ *(?:- )?uses: (.*)$", text, re.MULTILINE)
        assert used
        for action in used:
            matched = re.fullmatch(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", action)
            assert matched, action
            versions.setdefault(matched[1], set()).add(matched[2])
        # No job may do more than read but the one that publishes and the one that makes the release.
        assert re.findall(r"^permissions:\n  contents: read\n\n", text, re.MULTILINE)
        granted = re.findall(r"^  (\w+):\n(?:    .*\n)+?    permissions:\n((?:      .*\n)+)", text, re.MULTILINE)
        assert text.count("permissions:\n") == 1 + len(granted)
        assert {job: lines.split(" #")[0].strip() for job, lines in granted} == (
            {"publish": "id-token: write", "release": "contents: write"} if path.name == "wheels.yml" else {}
        )
        assert all(lines.count("\n") == 1 for _, lines in granted)
    assert all(len(pins) == 1 for pins in versions.values()), versions


@pytest.mark.parametrize("name", ["test", "kernels"])
def test_locks_have_the_versions_of_the_constraints_and_a_hash_of_every_file(name: str) -> None:
    constraints: dict[str, set[str]] = {}
    for package, version in found(r"^([\w-]+)==([^;\s]+)", "constraints.txt"):  # type: ignore[misc]
        constraints.setdefault(package.replace("_", "-"), set()).add(version)
    text = (ROOT / "packaging" / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.findall(
        r"^([\w.-]+)==(\S+)(?: ; [^\\\n]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE
    )
    locked = {package for package, _, _ in entries}
    assert len(locked) == len(re.findall(r"^[^\s#]", text, re.MULTILINE))
    asked = found(r"^([\w-]+)$", f"packaging/locks/{name}.in")
    assert {package.replace("_", "-") for package in asked} <= locked
    for package, version, _ in entries:
        assert version in constraints.get(package, {version}), package


def test_the_lock_of_the_tests_has_all_that_demo_and_test_ask_for() -> None:
    tomllib, requirements = pytest.importorskip("tomllib"), pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = set(found(r"^([\w.-]+)==", "packaging/locks/test.txt"))
    seen: set[str] = set()
    left = ["demo", "test"]
    asked = [*project["dependencies"]]
    while left:
        extra = left.pop()
        if extra not in seen:
            seen.add(extra)
            given = [requirements.Requirement(text) for text in project["optional-dependencies"][extra]]
            left += [name for one in given if one.name == "nrc-fast" for name in one.extras]
            asked += [str(one) for one in given if one.name != "nrc-fast"]
    names = {requirements.Requirement(text).name.replace("_", "-").lower() for text in asked}
    assert {"numpy", "torch", "pytest", "dask"} <= names
    assert names <= locked


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
    left_out = [name for name in listed if not (source_distribution / name).is_file()]
    assert [name for name in left_out if not name.startswith((".ci/", ".github/"))] == []
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
