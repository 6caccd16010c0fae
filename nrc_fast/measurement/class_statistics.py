"""Neural collapse of classifiers, NC1 to NC4, from statistics of features with class labels.

Published code disagrees here as well; every variant has a name of its own, see
`nrc_fast.reports.VARIANTS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.forks import Guard
from nrc_fast.base.memory import memory_for
from nrc_fast.base.options import NonFinite, Precision, require_nonfinite, require_precision
from nrc_fast.base.processes import Team
from nrc_fast.kernels import calls
from nrc_fast.kernels.errors import NonFiniteRowsError, too_large
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.measurement import class_moments
from nrc_fast.measurement.class_moments import ADDITIVE, ClassMoments, reads_of, shifted_to
from nrc_fast.reports.classes import ClassReport

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["ClassStatistics", "Labels", "as_labels", "weights_and_bias"]

Labels = NDArray[np.int64]


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

    def __init__(
        self, d: int, n_classes: int, *, precision: Precision = "high", nonfinite: NonFinite = "raise"
    ) -> None:
        if d < 1 or n_classes < 2:
            msg = f"d is {d} and n_classes is {n_classes}; at least 1 feature and 2 classes are expected"
            raise ValueError(msg)
        require_nonfinite(nonfinite)
        require_precision(precision)
        self.d, self.n_classes, self.precision, self.nonfinite = d, n_classes, precision, nonfinite
        what = f"statistics of {d:,} features in {n_classes:,} classes"
        with memory_for(what, 8 * d * (d + 2 * n_classes), "they hold a matrix of d x d: give fewer features"):
            # In one object, so that what looks at it while another thread adds rows sees one state.
            self._moments = ClassMoments(d, n_classes)
        self._guard = Guard()

    def __repr__(self) -> str:
        return f"<ClassStatistics d = {self.d}, n_classes = {self.n_classes}: {self.count:,} rows>"

    @property
    def skipped(self) -> int:
        """Rows that were left out because they were not finite."""
        return self._moments.skipped

    @property
    def count(self) -> int:
        """Rows that were added."""
        return self._moments.count

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
        with self._guard.lock:  # batches may come from several threads
            state = {name: array.copy() for name, array in self._moments.state.items()}
            skipped = self._moments.skipped
            for first in range(0, rows.count, class_moments.CHUNK_ROWS):
                last = min(first + class_moments.CHUNK_ROWS, rows.count)
                skipped += self._add(state, rows.part(first, last), classes[first:last], first)
            self._hold(state, skipped)
        return self

    def _hold(self, state: dict[str, FloatArray], skipped: int) -> None:
        self._moments = ClassMoments(self.d, self.n_classes, state, skipped)

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
        state["rounded"][present] += energies
        kind = rows.backend.rounding_kind(rows, self.precision)
        state["reads"] += reads_of(kind, rows.count)
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
        added = other._moments  # before: it may be this very object
        with self._guard.lock:
            mine, theirs = self._moments.state, added.state
            shifts = np.where(mine["counts"][:, np.newaxis] > 0.0, mine["shifts"], theirs["shifts"])
            moved = shifted_to(theirs, shifts)
            state = moved | {name: mine[name] + moved[name] for name in ADDITIVE}
            self._hold(state, self._moments.skipped + added.skipped)
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
        with self._guard.lock:
            mine = self._moments.state
            shifts, known = np.zeros_like(mine["shifts"]), np.zeros(self.n_classes)
            for rank in range(team.size):  # of each class, the shift of the first process that has rows of it
                theirs, has = mine["shifts"].copy(), (mine["counts"] > 0.0).astype(np.float64)
                team.broadcast([theirs, has], root=rank)
                taken = (known == 0.0) & (has > 0.0)
                shifts[taken] = theirs[taken]
                known = np.maximum(known, has)
            state = shifted_to(mine, shifts)
            additive = [state[name].copy() for name in ADDITIVE]
            skipped = np.array([float(self._moments.skipped)])
            team.sum([*additive, skipped])
            self._hold({"shifts": shifts} | dict(zip(ADDITIVE, additive, strict=True)), int(skipped[0]))
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
        return self._moments.class_means

    @property
    def mean(self) -> FloatArray:
        """Mean of all rows, (d,)."""
        return self._moments.mean

    @property
    def centered_means(self) -> FloatArray:
        """M: mu_k minus the mean of all rows, (K, d), taken from differences so that a large mean costs no digits."""
        return self._moments.centered_means

    @property
    def within_covariance(self) -> FloatArray:
        """S_W = (1/N) sum (h - mu_k)(h - mu_k)^T, (d, d)."""
        return self._moments.within_covariance

    @property
    def class_variances(self) -> FloatArray:
        """v_k = (1/n_k) sum |h - mu_k|^2, (K,)."""
        return self._moments.class_variances

    # ---- accuracy ----

    @property
    def within_error(self) -> float:
        """Bound of the norm of the error of `within_covariance`: of the sum, and twice of the means' squares."""
        return self._moments.within_error

    @property
    def mean_error(self) -> float:
        """Bound of the norm of the error of every row of `centered_means`."""
        return self._moments.mean_error

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
        `nrc_fast.reports.VARIANTS` for the others.
        """
        moments = self._moments
        return moments.report(None if W is None else weights_and_bias(W, b, self.n_classes, self.d))

    # ---- copies ----

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_guard"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._guard = Guard()


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
