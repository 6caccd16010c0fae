"""What is written is none of what is read, under any name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nrc_fast.base.outputs import require_apart, require_text_place


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "h.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00\0")
    return path


def names(file: Path, kind: str) -> Path:
    """Another name of a file."""
    other = file.parent / "folder" / "other.npy"
    if kind == "same":
        return file
    if kind == "spelt":
        return file.parent / "folder" / ".." / "h.npy"
    if kind == "relative":
        return Path(os.path.relpath(file))
    if kind == "hard link":
        os.link(file, other)
        return other
    other.symlink_to(file)
    return other


@pytest.mark.parametrize("kind", ["same", "spelt", "relative", "link", "hard link"])
def test_an_output_is_no_input(file: Path, kind: str) -> None:
    other = names(file, kind)
    for output, inputs in ((other, [file]), (file, [other])):
        with pytest.raises(ValueError, match=r"--csv is .* would replace what is read from"):
            require_apart({"--csv": output, "--plot": None}, inputs)
    with pytest.raises(ValueError, match="--plot and --csv are one file"):
        require_apart({"--csv": other, "--plot": file}, [])


def test_files_that_are_not_there_yet_are_the_same_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "new.json")
    with pytest.raises(ValueError, match="are one file"):
        require_apart({"a": tmp_path / "new.json", "b": tmp_path / "link"}, [])
    require_apart({"a": tmp_path / "new.json", "b": tmp_path / "newer.json"}, [tmp_path / "absent.npy"])
    require_apart({"a": os.devnull, "b": os.devnull}, [os.devnull])


def test_nothing_is_written_into_a_folder_that_is_read(file: Path) -> None:
    link = file.parent / "link"
    link.symlink_to(file.parent / "folder")
    for output in (file.parent / "folder" / "zarr.json", link / "deep" / "new"):
        with pytest.raises(ValueError, match="would replace what is read"):
            require_apart({"a": output}, [file.parent / "folder"])
    require_apart({"a": file.parent / "folders"}, [file.parent / "folder"])


def test_text_replaces_text_alone(file: Path) -> None:
    with pytest.raises(ValueError, match="something else than text"):
        require_text_place(file)
    (file.parent / "a.csv").write_text("step\n")
    for path in (file.parent / "a.csv", file.parent / "absent.csv", file.parent / "folder", os.devnull):
        require_text_place(path)
