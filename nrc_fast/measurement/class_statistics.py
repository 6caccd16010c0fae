"""Neural collapse of classifiers, NC1 to NC4, from statistics of features with class labels.

Published code disagrees here as well; every variant has a name of its own, see
`nrc_fast.metrics.classes.VARIANTS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import EPSILON, from_lower
from nrc_fast.base.options import require_nonfinite, require_precision
from nrc_fast.base.processes import Team
from nrc_fast.kernels import calls
from nrc_fast.kernels.cpu.machine import block_rows
from nrc_fast.kernels.errors import NonFiniteRowsError, too_large
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.measurement.undefined import notes_of_classes
from nrc_fast.metrics.classes import (
    cdnv,
    cdnv_bound,
    duality,
    duality_bounds,
    simplex,
    simplex_bounds,
    variability,
    variability_bounds,
)
from nrc_fast.metrics.rounding import block_rounding
from nrc_fast.reports.classes import ClassReport

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["ClassStatistics", "Labels", "as_labels", "weights_and_bias"]

Labels = NDArray[np.int64]

# Rows whose differences from their class shift are held at a time.
CHUNK_ROWS = 4096

# What is added up over parts.
ADDITIVE = ("counts", "sums", "energies", "gram", "reads")
# What is read: rows whose products were float32 on the CPU, or of a CUDA device's precision, and the chunks of all.
READS = ("single", "device", "fast", "chunks")


class ClassStatistics:
    """Sums of features around a shift of each class: all that NC1 to NC3 need, in memory of d x d and K x d.

    The shift of a class is the mean of its first rows, so that what is left near collapse is small and keeps its
    digits: subtracting moments of all rows would leave none below 1e-16 of the variance between the classes (1e-8
    for float32 products).

    Parameters
    ----------
    d : int
        Number of features.
    n_classes : int
        K; labels are 0..K-1.
    precision : {"high", "highest", "fast"}
        "highest" computes in float64 throughout; else products of rows that are not float64 are float32.
    nonfinite : {"raise", "skip"}
        What to do with rows that hold NaN or infinite values.

    Raises
    ------
    ValueError
        A size or an option is none.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> means, labels = rng.standard_normal((3, 8)), np.arange(300) % 3
    >>> statistics = ClassStatistics(8, 3)
    >>> for part in np.split(np.arange(300), 3):
    ...     noise = 1e-6 * rng.standard_normal((100, 8))
    ...     statistics = statistics.update(means[labels[part]] + noise, labels[part])
    >>> statistics.count, 1e-13 < statistics.report().nc1 < 1e-11
    (300, True)
    """

    __module__ = "nrc_fast"

    def __init__(self, d: int, n_classes: int, *, precision: str = "high", nonfinite: str = "raise") -> None:
        if d < 1 or n_classes < 2:
            msg = f"d is {d} and n_classes is {n_classes}; at least 1 feature and 2 classes are expected"
            raise ValueError(msg)
        require_nonfinite(nonfinite)
        require_precision(precision)
        self.d, self.n_classes, self.precision, self.nonfinite = d, n_classes, precision, nonfinite
        self.skipped = 0
        self._state: dict[str, FloatArray] = {
            "shifts": np.zeros((n_classes, d)),
            "counts": np.zeros(n_classes),
            "sums": np.zeros((n_classes, d)),
            "energies": np.zeros(n_classes),
            "gram": np.zeros((d, d)),
            "reads": np.zeros(len(READS)),
        }

    @property
    def count(self) -> int:
        """Rows that were added."""
        return int(self._state["counts"].sum())

    # ---- adding rows ----

    def update(self, H: Array | Rows, labels: Array) -> ClassStatistics:
        """Add a batch; when it raises, nothing was added.

        Parameters
        ----------
        H : (B, d) array or tensor
            A tensor on a CUDA device is added up there, and waited for.
        labels : (B,) array or tensor of integers
            In 0..K-1.

        Returns
        -------
        ClassStatistics
            itself

        Raises
        ------
        TypeError, ValueError, RuntimeError
            The features are no float matrix or lie on a device that cannot be used, the labels are no integers in
            0..K-1, or they do not fit.
        """
        rows = H if isinstance(H, Rows) else rows_in_place(H, "H")
        classes = as_labels(labels, self.n_classes)
        if rows.columns != self.d or len(classes) != rows.count:
            msg = f"H is ({rows.count}, {rows.columns}) and there are {len(classes)} labels; (B, {self.d}) and B fit"
            raise ValueError(msg)
        state = {name: array.copy() for name, array in self._state.items()}
        skipped = 0
        for first in range(0, rows.count, CHUNK_ROWS):
            last = min(first + CHUNK_ROWS, rows.count)
            skipped += self._add(state, rows.part(first, last), classes[first:last], first)
        self._state, self.skipped = state, self.skipped + skipped
        return self

    def _add(self, state: dict[str, FloatArray], rows: Rows, classes: Labels, first: int) -> int:
        finite = rows.finite_rows()
        bad = int(np.count_nonzero(~finite))
        if bad:
            if self.nonfinite == "raise":
                raise NonFiniteRowsError(rows.name, bad, first + int(np.argmin(finite)), rows.count)
            rows, classes = rows.take(finite), classes[finite]
        if not len(classes):
            return bad
        present, numbers, row_counts = np.unique(classes, return_inverse=True, return_counts=True)
        members = rows.backend.class_rows(rows, numbers.reshape(-1), row_counts)
        new = state["counts"][present] == 0.0
        if new.any():
            means = members.sums() / row_counts[:, np.newaxis]
            state["shifts"][present[new]] = means[new]
        members.subtract(state["shifts"][present])
        state["counts"][present] += row_counts
        state["sums"][present] += members.sums()
        energies = members.energies()
        if not np.isfinite(energies).all():
            raise too_large(rows.name)
        state["energies"][present] += energies
        kind = rows.backend.rounding_kind(rows, self.precision)
        state["reads"] += _reads(kind, rows.count)
        state["gram"] += calls.gram(members.rows(double=kind == "double"), precision=self.precision).gram
        return bad

    # ---- parts of the rows ----

    def merge(self, other: object) -> ClassStatistics:
        """Add the rows of another part; returns itself.

        Raises
        ------
        TypeError, ValueError
            It is something else, or has other sizes.
        """
        if not isinstance(other, ClassStatistics):
            msg = f"a {type(other).__name__} cannot be merged into class statistics"
            raise TypeError(msg)
        if (self.d, self.n_classes) != (other.d, other.n_classes):
            sizes = f"{self.d} and {other.d} features, {self.n_classes} and {other.n_classes} classes"
            msg = f"parts of {sizes} do not add up"
            raise ValueError(msg)
        mine, theirs = self._state, other._state
        shifts = np.where(mine["counts"][:, np.newaxis] > 0.0, mine["shifts"], theirs["shifts"])
        moved = _shifted_to(theirs, shifts)
        self._state = moved | {name: mine[name] + moved[name] for name in ADDITIVE}
        self.skipped += other.skipped
        return self

    def __iadd__(self, other: ClassStatistics) -> ClassStatistics:  # noqa: PYI034 - no subclasses are meant
        """Merge in place."""
        return self.merge(other)

    def all_reduce(self, group: ProcessGroup | None = None) -> ClassStatistics:
        """Add up the parts of all processes of a group; every process must call. Returns itself.

        Raises
        ------
        RuntimeError
            torch.distributed was not initialised.
        """
        team = Team(group)
        shifts, known = np.zeros_like(self._state["shifts"]), np.zeros(self.n_classes)
        for rank in range(team.size):  # of each class, the shift of the first process that has rows of it
            theirs, has = self._state["shifts"].copy(), (self._state["counts"] > 0.0).astype(np.float64)
            team.broadcast([theirs, has], root=rank)
            taken = (known == 0.0) & (has > 0.0)
            shifts[taken] = theirs[taken]
            known = np.maximum(known, has)
        state = _shifted_to(self._state, shifts)
        additive = [state[name].copy() for name in ADDITIVE]
        skipped = np.array([float(self.skipped)])
        team.sum([*additive, skipped])
        self._state = {"shifts": shifts} | dict(zip(ADDITIVE, additive, strict=True))
        self.skipped = int(skipped[0])
        return self

    # ---- moments ----

    @property
    def class_means(self) -> FloatArray:
        """mu_k, (K, d).

        Raises
        ------
        ValueError
            A class has no rows.
        """
        return self._state["shifts"] + self._offsets()

    def _offsets(self) -> FloatArray:
        counts = self._state["counts"]
        if not counts.all():
            missing = ", ".join(map(str, np.flatnonzero(counts == 0.0)[:10]))
            msg = f"no rows of class {missing} were added; every one of the {self.n_classes} classes needs some"
            raise ValueError(msg)
        offsets: FloatArray = self._state["sums"] / counts[:, np.newaxis]
        return offsets

    @property
    def mean(self) -> FloatArray:
        """Mean of all rows, (d,)."""
        mean: FloatArray = self._state["counts"] @ self.class_means / self.count
        return mean

    @property
    def centred_means(self) -> FloatArray:
        """M: mu_k minus the mean of all rows, (K, d), taken from differences so that a large mean costs no digits."""
        differences = self._state["shifts"] - self._state["shifts"][0] + self._offsets()
        centred: FloatArray = differences - self._state["counts"] @ differences / self.count
        return centred

    @property
    def within_covariance(self) -> FloatArray:
        """S_W = (1/N) sum (h - mu_k)(h - mu_k)^T, (d, d)."""
        offsets, shares = self._offsets(), self._state["counts"] / self.count
        gram = from_lower(self._state["gram"])
        covariance: FloatArray = gram / self.count - (offsets.T * shares) @ offsets
        return covariance

    @property
    def class_variances(self) -> FloatArray:
        """v_k = (1/n_k) sum |h - mu_k|^2, (K,)."""
        offsets = self._offsets()
        variances: FloatArray = self._state["energies"] / self._state["counts"] - np.sum(offsets**2, axis=1)
        return np.maximum(variances, 0.0)

    # ---- accuracy ----

    def _rounding(self, *kinds: str) -> float:
        """Bound of the rounding of a sum of squares relative to it, as in `nrc_fast.passes.moments`."""
        read = dict(zip(READS, self._state["reads"].tolist(), strict=True))
        largest = max(block_rounding(kind, block_rows()) for kind in kinds if kind == "double" or read[kind])
        return largest + EPSILON / 2 * (CHUNK_ROWS / block_rows() + float(read["chunks"]))

    @property
    def within_error(self) -> float:
        """Bound of the norm of the error of `within_covariance`: of the sum, and twice of the means' squares."""
        rounding = self._rounding("double", "single", "device", "fast")
        return 3.0 * rounding * float(self._state["energies"].sum()) / self.count

    @property
    def mean_error(self) -> float:
        """Bound of the norm of the error of every row of `centred_means`."""
        differences = self._state["shifts"] - self._state["shifts"][0] + self._offsets()
        spread = float(np.sqrt(np.max(self._state["energies"] / self._state["counts"])))
        largest = float(np.max(np.linalg.norm(differences, axis=1)))
        return 2.0 * self._rounding("double") * spread + 8.0 * EPSILON * largest

    # ---- metrics ----

    def report(self, W: Array | None = None, b: Array | None = None) -> ClassReport:
        """NC1, NC2, and with weights NC3; ``nc4`` and ``accuracy`` need the rows again (`measure_classes`).

        Parameters
        ----------
        W : (K, d) array or tensor, optional
        b : (K,) array or tensor, optional
            Zeros where it is not given.

        Returns
        -------
        ClassReport

        Raises
        ------
        TypeError, ValueError
            The weights do not fit, or a class has no rows.

        References
        ----------
        Papyan, Han, Donoho, "Prevalence of neural collapse during the terminal phase of deep learning training", PNAS
        2020; see
        `nrc_fast.metrics.classes.VARIANTS` for the others.
        """
        mean, centred = self.mean, self.centred_means
        within = self.within_covariance
        values: dict[str, Any] = variability(within, centred, self._state["counts"])
        variances, counts = self.class_variances, self._state["counts"]
        with np.errstate(divide="ignore", invalid="ignore"):
            unbiased = variances * counts / (counts - 1.0)
        values["cdnv"], values["cdnv_unbiased"] = cdnv(centred, variances), cdnv(centred, unbiased)
        values |= simplex(centred)
        error = self.mean_error
        bounds = variability_bounds(values, within, centred, counts, (self.within_error, error))
        bounds |= self._cdnv_bounds(centred) | simplex_bounds(values, centred, error)
        if W is not None:
            head = weights_and_bias(W, b, self.n_classes, self.d)
            values |= duality(*head, centred, mean)
            bounds |= duality_bounds(values, *head, centred, mean, error)
        notes = notes_of_classes(values, counts=counts, centred=centred, weights=None if W is None else head[0])
        sizes = {"samples": self.count, "d": self.d, "n_classes": self.n_classes, "skipped_rows": self.skipped}
        return ClassReport(**sizes, **values, bounds=bounds, notes=tuple(notes))

    def _cdnv_bounds(self, centred: FloatArray) -> dict[str, float]:
        """Variances are sums of float64 squares around a shift near the mean."""
        variances, counts = self.class_variances, self._state["counts"]
        errors = 3.0 * self._rounding("double") * self._state["energies"] / counts
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = counts / (counts - 1.0)
            unbiased = variances * factors, errors * factors
        return {
            "cdnv": cdnv_bound(centred, variances, errors, self.mean_error),
            "cdnv_unbiased": cdnv_bound(centred, *unbiased, self.mean_error),
        }


def as_labels(labels: Array, n_classes: int | None) -> Labels:
    """Labels as an array of integers, checked against the number of classes."""
    detached = labels.detach().cpu() if hasattr(labels, "detach") else labels
    array = np.asarray(detached)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        msg = f"labels are {array.dtype} of shape {array.shape}; integers of shape (B,), one for each row, are expected"
        raise TypeError(msg)
    if array.size and (array.min() < 0 or (n_classes is not None and array.max() >= n_classes)):
        last = "K - 1" if n_classes is None else n_classes - 1
        msg = f"labels lie in {array.min()}..{array.max()}; 0..{last} is expected"
        raise ValueError(msg)
    return array.astype(np.int64)


def weights_and_bias(W: Array, b: Array | None, n_classes: int, d: int) -> tuple[FloatArray, FloatArray]:
    """The head of a classifier in float64, checked against the classes and features."""
    weights, _ = as_matrix(W, "W")
    bias = np.zeros(n_classes) if b is None else as_matrix(b, "b", vector_is_column=True)[0].ravel()
    if weights.shape != (n_classes, d) or bias.shape != (n_classes,):
        msg = f"W is {weights.shape} and b {bias.shape}; ({n_classes}, {d}) and ({n_classes},) are expected"
        raise ValueError(msg)
    return weights, bias


def _shifted_to(state: dict[str, FloatArray], shifts: FloatArray) -> dict[str, FloatArray]:
    """The state as if other shifts had been subtracted; classes without rows take them over."""
    counts, sums = state["counts"][:, np.newaxis], state["sums"]
    delta = np.where(counts > 0.0, state["shifts"] - shifts, 0.0)
    half = sums + 0.5 * counts * delta
    return {
        "shifts": shifts,
        "counts": state["counts"],
        "sums": sums + counts * delta,
        "energies": state["energies"] + 2.0 * np.sum(half * delta, axis=1),
        "gram": state["gram"] + np.tril(half.T @ delta + delta.T @ half),
        "reads": state["reads"],
    }


def _reads(kind: str, rows: int) -> FloatArray:
    """A chunk of rows of one kind, as an array that adds up."""
    return np.array([rows if name == kind else float(name == "chunks") for name in READS], dtype=np.float64)
