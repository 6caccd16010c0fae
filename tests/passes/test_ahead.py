"""The thread that reads ahead hands its errors on and ends with the pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.streams import draw, shards

import nrc_fast as nrc
from nrc_fast.passes.begin import begin_reading


def test_errors_of_the_reader_arrive_and_its_thread_ends(tmp_path: Path) -> None:
    import threading

    H, _, _ = draw(15, 2000, 8, 2)
    pattern = shards(tmp_path, "H", H, [1000])
    source = nrc.open(pattern)
    with (tmp_path / "H_1.npy").open("r+b") as file:
        file.truncate(3000)
    for _ in range(3):
        with pytest.raises(OSError, match=r"H_1\.npy has changed"):
            nrc.measure(source, n=2, chunk_rows=100)
    assert not [thread for thread in threading.enumerate() if "nrc_fast" in thread.name]


def test_an_abandoned_pass_ends_its_thread(tmp_path: Path) -> None:
    import threading

    H, _, _ = draw(16, 2000, 8, 2)
    np.save(tmp_path / "H.npy", H)

    class Refuses:
        def begin(self, *_: object) -> None: ...

        def add_chunk(self, _: object) -> None:
            raise ZeroDivisionError

    reading = begin_reading(tmp_path / "H.npy", chunk_rows=10)
    with pytest.raises(ZeroDivisionError):
        reading.run("refused", Refuses())  # type: ignore[arg-type]
    assert not [thread for thread in threading.enumerate() if "nrc_fast" in thread.name]
