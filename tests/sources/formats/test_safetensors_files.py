""".safetensors files and their indexes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.formats import write
from support.tables import COLUMNS, assert_table, normal

from nrc_fast.sources.opening import open_table


def test_tensors_of_an_index(tmp_path: Path) -> None:
    array = normal((9, COLUMNS), "float32")
    path = write(tmp_path, "index", array)
    assert_table(open_table(path, key="h_10"), array[4:], [4])
    with pytest.raises(ValueError, match=r"has no 'h'; it holds h_9 \(4, 5\) float32"):
        open_table(path, key="h")
    index = json.loads(path.read_text())
    index["weight_map"]["h_11"] = "features-9.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(OSError, match=r"features-9\.safetensors has no 'h_11', which .*index\.json says"):
        open_table(path, key="h_*")
    (tmp_path / "features-10.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"features-10"):
        open_table(path, key="h_9")
    path.write_text("{}")
    with pytest.raises(OSError, match=r"index\.json cannot be read"):
        open_table(path)


def safetensors_file(path: Path, header: dict[str, Any], data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    ("offsets", "other"),
    [((0, 96), (0, 48)), ((0, 48), (40, 96)), ((0, 48), (50, 98)), ((48, 0), (48, 96)), ((-48, 0), (0, 96))],
)
def test_malformed_headers_of_safetensors(offsets: tuple[int, int], other: tuple[int, int], tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    entry = {"dtype": "F32", "shape": [4, 3]}
    header = {"a": entry | {"data_offsets": offsets}, "b": entry | {"data_offsets": other}}
    path = safetensors_file(tmp_path / "f.safetensors", header, bytes(96))
    with pytest.raises(OSError, match=r"f\.safetensors cannot be read"):
        open_table(path, key="a")


def test_other_dtypes_of_safetensors_are_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    save({"h": torch.zeros(3, 2, dtype=torch.float8_e4m3fn)}, tmp_path / "f.safetensors")
    with pytest.raises(TypeError, match="has dtype F8_E4M3; float64, float32, float16, bfloat16 are supported"):
        open_table(tmp_path / "f.safetensors")


def test_pipes_behind_an_index_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m-1.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"h": "m-1.safetensors"}}))
    with pytest.raises(OSError, match=r"m-1\.safetensors is no regular file"):
        open_table(index)
