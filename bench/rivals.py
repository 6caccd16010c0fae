"""What others offer, called as their users would; published code without a package is written anew and marked so.

A library that is not installed stays in the results, with the command that installs it.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from features import as_wide
from harness import Contender

__all__ = [
    "authors_nrc1",
    "contender",
    "gamma_grid",
    "nrc1_in_blocks",
    "numpy_basis",
    "pipelines",
    "plain_nrc1",
    "projector_loop",
    "row_blocks",
    "streaming_bases",
    "torch_rows",
]

DISTRIBUTIONS = {"sklearn": "scikit-learn", "sklearnex": "scikit-learn-intelex"}
BLOCK_ROWS = 20_000
# Of (module, features, k), and of (features, basis).
BasisOf = Callable[[Any, np.ndarray, int], np.ndarray]
Residual = Callable[[np.ndarray, np.ndarray], float]
# Decompositions run at a part of the peak: counted as so many times d^3, and as so many times the product of the
# sides and the shorter side, to leave the longest out. 4,096 eigenvectors are a few seconds, 16,384 are minutes.
EIGENVECTORS = 40.0
SINGULAR_VECTORS = 20.0


def requirement(module: str) -> str:
    """What pip is to be told, with the version that bench/requirements.txt names.

    >>> requirement("sklearnex.covariance").split("==")[0]
    'scikit-learn-intelex'
    """
    root = module.split(".", maxsplit=1)[0]
    name = DISTRIBUTIONS.get(root, root)
    lines = Path(__file__).with_name("requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split(";")[0].strip() for line in lines if line.split("==")[0] == name]
    return pinned[0] if pinned else name


def contender(name: str, module: str, build: Callable[[Any], Callable[[], Any]], **more: Any) -> Contender:
    """A contender that needs a library, or one that says how to install it.

    Parameters
    ----------
    name : str
    module : str
        Imported now, so that no call is timed with its import.
    build : callable
        From the module to the call.
    more
        Further fields of the contender.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what else could be installed
            library = importlib.import_module(module)
    except ImportError:
        return Contender(name, absent=f"not installed: pip install {requirement(module)}", **more)
    return Contender(name, build(library), **more)


def row_blocks(H: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in blocks, as one gives them to estimators that stream."""
    for first in range(0, len(H), BLOCK_ROWS):
        yield np.asarray(H[first : first + BLOCK_ROWS])


# ---- bases of principal components, as rows (k, d) ----


def numpy_basis(H: np.ndarray, k: int) -> np.ndarray:
    """What a user of numpy writes."""
    centered = H - H.mean(axis=0)
    return np.asarray(np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :k].T)


def pca_basis(decomposition: Any, H: np.ndarray, k: int, solver: str = "auto") -> np.ndarray:
    """scikit-learn, all rows in memory; it chooses the solver by the shape."""
    return np.asarray(decomposition.PCA(k, svd_solver=solver).fit(H).components_)


def randomized_svd_basis(extmath: Any, H: np.ndarray, k: int) -> np.ndarray:
    """scikit-learn's randomized SVD of centred rows, with its own numbers of iterations and of further vectors."""
    return np.asarray(extmath.randomized_svd(H - H.mean(axis=0), k)[2])


def incremental_pca_basis(decomposition: Any, H: np.ndarray, k: int) -> np.ndarray:
    """scikit-learn's streaming PCA, which keeps k components between blocks: an approximation."""
    fitted = decomposition.IncrementalPCA(k)
    for block in row_blocks(H):
        fitted.partial_fit(block)
    return np.asarray(fitted.components_)


def intel_basis(covariance: Any, H: np.ndarray, k: int, threads: int) -> np.ndarray:
    """The streaming covariance of oneDAL, then eigenvectors."""
    fitted = covariance.IncrementalEmpiricalCovariance(copy=False, n_jobs=threads)
    for block in row_blocks(H):
        fitted.partial_fit(block)
    return np.asarray(np.linalg.eigh(fitted.covariance_)[1][:, ::-1][:, :k].T)


def torchdr_basis(torchdr: Any, H: np.ndarray, k: int) -> np.ndarray:
    """TorchDR's streaming PCA: exact, two passes."""
    import torch

    fitted = torchdr.ExactIncrementalPCA(k, device="cpu")
    fitted.fit([torch.from_numpy(block) for block in row_blocks(H)])
    return np.asarray(fitted.components_.numpy())


def streaming_bases(threads: int) -> list[tuple[str, str, BasisOf]]:
    """Name, module, and basis of (module, features, k) of every library that can take the rows in blocks."""
    return [
        ("scikit-learn IncrementalPCA", "sklearn.decomposition", incremental_pca_basis),
        (
            "scikit-learn-intelex IncrementalEmpiricalCovariance, eigh",
            "sklearnex.covariance",
            lambda covariance, H, k: intel_basis(covariance, H, k, threads),
        ),
        ("TorchDR ExactIncrementalPCA", "torchdr", torchdr_basis),
    ]


# ---- NRC1 ----


def plain_nrc1(H: np.ndarray, basis: np.ndarray) -> float:
    """What a user of numpy writes once there is a basis."""
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    rest = unit - (unit @ basis.T) @ basis
    return float((rest * rest).sum(axis=1).mean())


def nrc1_in_blocks(H: np.ndarray, basis: np.ndarray) -> float:
    """The same for rows that stream."""
    return sum(plain_nrc1(block, basis) * len(block) for block in row_blocks(H)) / len(H)


def torch_rows(torch: Any, H: Any) -> Any:
    """The features as a tensor, in float32 for 16-bit features."""
    rows = H if isinstance(H, torch.Tensor) else torch.from_numpy(H)
    return rows if rows.dtype.itemsize >= 4 else rows.float()


def torch_residual(rows: Any, basis: Any) -> float:
    """What a user of torch writes once there is a basis (d, k)."""
    unit = rows / rows.norm(dim=1, keepdim=True)
    rest = unit - (unit @ basis) @ basis.T
    return float((rest * rest).sum(dim=1).mean())


def torch_nrc1(torch: Any, H: Any, k: int) -> float:
    """With every eigenvector of the covariance."""
    rows = torch_rows(torch, H)
    centered = rows - rows.mean(dim=0)
    basis = torch.linalg.eigh(centered.T @ centered)[1][:, -k:]
    del centered
    return torch_residual(rows, basis)


def torch_lowrank_nrc1(torch: Any, H: Any, k: int) -> float:
    """With torch.pca_lowrank: its documentation asks for a rank above k, 6 by default, and takes V[:, :k] of it."""
    rows = torch_rows(torch, H)
    rank = min(max(6, k + 3), *rows.shape)
    return torch_residual(rows, torch.pca_lowrank(rows, q=rank)[2][:, :k])


def authors_nrc1(decomposition: Any, H: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """The steps of the code of arXiv 2409.04180, written anew: PCA, then for each k a d x d projector on unit rows."""
    import torch

    components = decomposition.PCA(max(numbers)).fit(H).components_
    rows = torch.from_numpy(H)
    unit = torch.nn.functional.normalize(rows, dim=1)
    values = []
    for k in numbers:
        basis = torch.from_numpy(components[:k]).to(rows.dtype)
        projector = basis.T @ basis
        values.append(float(torch.norm(unit @ projector - unit) ** 2 / len(unit)))
    return np.array(values)


def projector_loop(H: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """The loop over k of nc-toolbox, written anew from its description, on centred components as all others here."""
    centered = H - H.mean(axis=0)
    components = np.linalg.svd(centered, full_matrices=False)[2]
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    values = []
    for k in numbers:
        projector = components[:k].T @ components[:k]
        rest = unit - (projector @ unit.T).T
        values.append(float(np.sum(rest * rest)) / len(H))
    return np.array(values)


def pipelines(H: Any, k: int, threads: int) -> list[Contender]:
    """Everybody's way from features in memory to NRC1 of k components."""
    count, d = H.shape
    eigenvectors, singular_vectors = EIGENVECTORS * d**3, SINGULAR_VECTORS * count * d * min(d, BLOCK_ROWS)

    def with_basis(name: str, module: str, basis_of: BasisOf, flops: float, residual: Residual) -> Contender:
        def build(library: Any) -> Callable[[], float]:
            return lambda: residual(as_wide(H), basis_of(library, as_wide(H), k))

        return contender(f"{name}, numpy", module, build, flops=flops)

    def in_memory(name: str, module: str, basis_of: BasisOf, flops: float = 0.0) -> Contender:
        return with_basis(f"scikit-learn {name}", module, basis_of, flops, plain_nrc1)

    def with_torch(name: str, value: Callable[[Any, Any, int], float], flops: float = 0.0) -> Contender:
        return contender(name, "torch", lambda torch: lambda: value(torch, H, k), flops=flops)

    of_covariance = partial(pca_basis, solver="covariance_eigh")
    return [
        Contender("numpy", lambda: plain_nrc1(as_wide(H), numpy_basis(as_wide(H), k)), flops=eigenvectors),
        with_torch("torch", torch_nrc1, eigenvectors),
        with_torch("torch.pca_lowrank", torch_lowrank_nrc1),
        in_memory("PCA", "sklearn.decomposition", pca_basis),
        in_memory("PCA(svd_solver='covariance_eigh')", "sklearn.decomposition", of_covariance, eigenvectors),
        in_memory("randomized_svd", "sklearn.utils.extmath", randomized_svd_basis),
        *(
            with_basis(name, module, basis_of, flops, nrc1_in_blocks)
            for name, module, basis_of in streaming_bases(threads)
            for flops in [singular_vectors if basis_of is incremental_pca_basis else eigenvectors]
        ),
        contender(
            "code of arXiv 2409.04180, written anew",
            "sklearn.decomposition",
            lambda library: lambda: float(authors_nrc1(library, as_wide(H), [k])[0]),
            flops=2.0 * count * d**2,
        ),
    ]


# ---- NRC3 ----


def gamma_grid(head: np.ndarray, sigma: np.ndarray, count: int = 1000) -> tuple[float, float]:
    """The search of the code of arXiv 2409.04180, written anew: NRC3 at its best gamma of a grid, and that gamma."""
    values, vectors = np.linalg.eigh(sigma)
    root = (vectors * np.sqrt(values)) @ vectors.T
    shape = head / np.linalg.norm(head)
    best = (np.inf, np.nan)
    for gamma in np.linspace(0.0, values[0], count):
        target = root - np.sqrt(gamma) * np.eye(len(root))
        norm = np.linalg.norm(target)
        if norm > 0.0:
            best = min(best, (float(np.linalg.norm(shape - target / norm) ** 2), float(gamma)))
    return best
