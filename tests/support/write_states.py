"""Writes the saved states that tests/passes/test_saved_states.py reads: once for every format, by its first version.

    python tests/support/write_states.py 0.1.0

writes tests/states/statistics-0.1.0.npz and checkpoint-0.1.0.npz. States of versions that were released stay.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

ROWS, D, N, CHUNK_ROWS = 500, 5, 2, 100


def features() -> Any:
    """Float32 rows without rounding, the same on every machine."""
    row, column = np.indices((ROWS, D))
    return ((row * row * (column + 3) + 17 * row * column) % 251 / 64.0 + column).astype(np.float32)


def targets() -> Any:
    row, column = np.indices((ROWS, N))
    return ((row * (7 * row + 5 * column + 1)) % 127 / 32.0).astype(np.float32)


def main(version: str) -> None:
    import nrc_fast as nrc
    from nrc_fast.passes.checkpoint import Checkpoint

    folder = Path(__file__).parents[1] / "states"
    H = features()
    H[7, 2] = np.nan
    nrc.FeatureStatistics(D, n_targets=N, nonfinite="skip").update(H, targets()).save(
        folder / f"statistics-{version}.npz"
    )
    record = Checkpoint.record

    def stop(self: Checkpoint, number: int, title: str, chunks: int, arrays: Any, **_: Any) -> None:
        is_finished = number == 0 and chunks == ROWS // CHUNK_ROWS
        record(self, number, title, chunks, arrays, is_finished=is_finished, now=True)
        if (number, chunks) == (1, 2):
            raise KeyboardInterrupt

    Checkpoint.record = stop  # type: ignore[method-assign]
    path = folder / f"checkpoint-{version}.npz"
    path.unlink(missing_ok=True)
    try:
        nrc.measure(features(), targets(), chunk_rows=CHUNK_ROWS, checkpoint=path)
    except KeyboardInterrupt:
        print(f"written to {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
