"""NRC1 from features in memory: ours against what users write, and against whole libraries.

All do the same work: principal components of the centred features, unit rows, mean residual on three components.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from harness import Contender, Problem, random_features, rows_of

SHAPES = [(400_000, 256), (1_000_000, 64)]
DTYPES = ["float32"]
COMPONENTS = 3


def problems(shapes: list[tuple[int, int]], dtypes: list[str]) -> Iterator[Problem]:
    """One for each shape and dtype."""
    for rows, d in shapes:
        for dtype in dtypes:
            yield _problem(rows, d, dtype)


def contenders(H: np.ndarray) -> list[Contender]:
    """Ours first."""
    import nrc_fast

    return [
        Contender("nrc_fast.nrc1(H, 3)", lambda: nrc_fast.nrc1(H, COMPONENTS)),
        Contender("numpy", lambda: with_numpy(H)),
        Contender("torch", lambda: with_torch(H)),
        Contender("scikit-learn PCA(3)", lambda: with_pca(H, "auto")),
        Contender("scikit-learn PCA(3, covariance_eigh)", lambda: with_pca(H, "covariance_eigh")),
        Contender("scikit-learn IncrementalPCA(3)", lambda: with_incremental_pca(H)),
        Contender("as the authors' code: PCA, projector d x d", lambda: as_the_authors(H)),
    ]


def _problem(rows: int, d: int, dtype: str) -> Problem:
    H = random_features(rows, d, dtype)
    truth = in_float64(H)
    everybody = contenders(H)
    return Problem(
        name="nrc1",
        ours=everybody[0].name,
        contenders=everybody,
        error=lambda value: abs(value / truth - 1.0),
        flops=float(rows) * d * (d + 1),
        bytes_read=2.0 * rows * d * np.dtype(dtype).itemsize,
        dtype="float64" if dtype == "float64" else "float32",
        facts={"rows": rows, "d": d, "dtype": dtype},
    )


def in_float64(H: np.ndarray) -> float:
    """The truth, in chunks, from the definition."""
    spans = range(0, len(H), 20_000)
    mean = sum(rows_of(H, first, first + 20_000).sum(axis=0) for first in spans) / len(H)
    gram = np.zeros((H.shape[1], H.shape[1]))
    for first in spans:
        centered = rows_of(H, first, first + 20_000) - mean
        gram += centered.T @ centered
    basis = np.linalg.eigh(gram)[1][:, -COMPONENTS:]
    return sum(_residual(rows_of(H, first, first + 20_000), basis) for first in spans) / len(H)


def _residual(rows: np.ndarray, basis: np.ndarray) -> float:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rest = unit - (unit @ basis) @ basis.T
    return float(np.sum(rest * rest, dtype=np.float64))


def with_numpy(H: np.ndarray) -> float:
    """What a user of numpy writes."""
    centered = H - H.mean(axis=0)
    basis = np.linalg.eigh(centered.T @ centered)[1][:, -COMPONENTS:]
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    rest = unit - (unit @ basis) @ basis.T
    return float((rest * rest).sum(axis=1).mean())


def with_torch(H: np.ndarray) -> float:
    """What a user of torch writes."""
    import torch

    tensor = torch.from_numpy(H)
    centered = tensor - tensor.mean(dim=0)
    basis = torch.linalg.eigh(centered.T @ centered)[1][:, -COMPONENTS:]
    unit = tensor / tensor.norm(dim=1, keepdim=True)
    rest = unit - (unit @ basis) @ basis.T
    return float((rest * rest).sum(dim=1).mean())


def with_pca(H: np.ndarray, solver: str) -> float:
    """The basis from scikit-learn, the residual as with numpy."""
    from sklearn.decomposition import PCA

    basis = PCA(COMPONENTS, svd_solver=solver).fit(H).components_.T
    return _residual(H, basis) / len(H)


def with_incremental_pca(H: np.ndarray) -> float:
    """The streaming PCA of scikit-learn, which keeps only three components between batches."""
    from sklearn.decomposition import IncrementalPCA

    fitted = IncrementalPCA(COMPONENTS, batch_size=20_000)
    for first in range(0, len(H), 20_000):
        fitted.partial_fit(H[first : first + 20_000])
    return _residual(H, fitted.components_.T) / len(H)


def as_the_authors(H: np.ndarray) -> float:
    """The steps of the code of arXiv 2409.04180, written anew: PCA, then a d x d projector on unit rows."""
    import torch
    from sklearn.decomposition import PCA

    basis = torch.from_numpy(PCA(COMPONENTS).fit(H).components_.astype(H.dtype))
    unit = torch.nn.functional.normalize(torch.from_numpy(H))
    projector = basis.T @ basis
    return float(torch.norm(unit @ projector - unit).double() ** 2 / len(unit))
