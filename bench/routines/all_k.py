"""NRC1 for every number of components at once, against a loop over them as nc-toolbox runs it (written anew)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from harness import Contender, Problem, as_float64, random_features

SHAPES = [(2_000, 96), (20_000, 96), (20_000, 256)]
DTYPES = ["float64"]


def problems(shapes: list[tuple[int, int]], dtypes: list[str]) -> Iterator[Problem]:
    """One for each shape and dtype."""
    import nrc_fast

    for rows, d in shapes:
        for dtype in dtypes:
            H = random_features(rows, d, dtype)
            reference = loop(as_float64(H))
            contenders = [
                Contender("nrc_fast.nrc1(H, None)", lambda H=H: nrc_fast.nrc1(H, None)),
                Contender("loop over k: unit rows on k components", lambda H=H: loop(H)),
            ]
            yield Problem(
                name="all_k",
                ours=contenders[0].name,
                contenders=contenders,
                error=lambda values, reference=reference: float(
                    np.abs(np.asarray(values)[:-1] / reference[:-1] - 1.0).max()
                ),
                facts={"rows": rows, "d": d, "dtype": dtype},
            )


def loop(H: np.ndarray) -> np.ndarray:
    """One projection for each k."""
    centered = H - H.mean(axis=0)
    components = np.linalg.svd(centered, full_matrices=False)[2]
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    values = []
    for k in range(1, H.shape[1] + 1):
        projector = components[:k].T @ components[:k]
        rest = unit - (projector @ unit.T).T
        values.append(float(np.sum(rest * rest)) / len(H))
    return np.array(values)
