"""Statistics of features that arrive in batches, or lie on several machines: the public accumulator."""

from __future__ import annotations

from dataclasses import replace
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.options import ByK, NonFinite, Precision, Spectrum, require_nonfinite, require_tolerance
from nrc_fast.base.processes import Team
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.measurement.assembly import Wishes, report_of
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.measurement.extent import extent_of
from nrc_fast.measurement.head import Head
from nrc_fast.measurement.kept_rows import KeptRows, restored_rows, rows_of_all
from nrc_fast.measurement.moments_and_rows import MomentsAndRows
from nrc_fast.metrics.conventions import Convention, ConventionName, resolve_convention
from nrc_fast.metrics.prediction import PenaltyProduct
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.precisions import double_rows
from nrc_fast.passes.reading import add_finite
from nrc_fast.passes.stored_sums import load_sums, save_sums, sizes_of_sums
from nrc_fast.reports.features import Report
from nrc_fast.sources import Chunk

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from typing_extensions import Self

__all__ = ["FeatureStatistics", "ReportOptions"]


class ReportOptions(TypedDict, total=False):
    """What `FeatureStatistics.report` takes by name."""

    n: int | None
    convention: ConventionName | Convention
    penalties: PenaltyProduct | None
    rtol: float
    by_k: ByK
    spectrum: Spectrum


class FeatureStatistics(MomentsAndRows):
    """Sufficient statistics of features and targets, added up batch by batch.

    Counts, shifted sums, Gram, unit-row Gram, cross moments and target moments: what NRC1 for every k, NRC2, NRC3,
    the spectrum, linear CKA and the errors of linear readouts need, in memory that does not grow with many rows.
    Sums are of h - s with s the mean of the first rows, so that a large mean costs no digits; they are float64,
    and products of other rows are taken in float32 blocks of a few hundred unless `precision` is "highest", or there
    are few: with "high", while the number of rows times the square of d is up to 1e8.

    Few rows of the host, of up to 32,768 features and targets in all each and of up to 1,024 features, are kept beside
    the sums, so that `report` can read them again, and tells of them what `measure` would. They are dropped for good
    when they become more, when a batch comes on a device, or a part without its rows is merged.

    Tensors on a CUDA device are added up there: `update` launches kernels on the caller's current stream of that device
    and waits for nothing, so that it may be part of a CUDA graph once a first batch was added outside. What a look at
    them needs comes to the host in one copy; from d = 1024 on matrices of d x d numbers stay on the device, where
    `report` and `merge` compute with them in float64, and come with `save`, `covariance`, `spectrum` and the like.
    A whole spectrum from a device is checked, and where it is wrong the host computes it with a warning.

    Parameters
    ----------
    d : int
        Number of features.
    n_targets : int
        Number of target outputs; 0 for features alone.
    unit_rows : bool
        Whether the Gram of the rows h/||h|| is summed too, at the cost of a second product: the conventions nrc24
        and uncentered need it.
    precision : {"high", "highest", "fast"}
    nonfinite : {"raise", "skip"}
        What to do with rows that hold NaN or infinite values.

    Raises
    ------
    ValueError
        A size is not positive or an option is unknown.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1, for what is measured.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> statistics = FeatureStatistics(8)
    >>> for batch in np.split(rng.standard_normal((600, 8)), 6):
    ...     statistics.update(batch).count
    100
    200
    300
    400
    500
    600
    >>> 0.7 < statistics.report(n=2).nrc1 < 0.75
    True
    """

    __module__ = "nrc_fast"

    def __init__(
        self,
        d: int,
        *,
        n_targets: int = 0,
        unit_rows: bool = True,
        precision: Precision = "high",
        nonfinite: NonFinite = "raise",
    ) -> None:
        d, n_targets = index(d), index(n_targets)
        if d < 1 or n_targets < 0:
            msg = f"d is {d} and n_targets is {n_targets}; at least 1 feature and no negative number are expected"
            raise ValueError(msg)
        require_nonfinite(nonfinite)
        self.nonfinite = nonfinite
        self._is_total = False
        moments = Moments(
            d,
            n_targets=n_targets,
            unit_rows=unit_rows,
            precision=precision,
            skips_on_device=nonfinite == "skip",
            double_rows=double_rows(d, precision),
        )
        super().__init__(moments)

    def __repr__(self) -> str:
        # What lies on a device is not waited for.
        rows = f"rows on {', '.join(self.devices)}" if self.devices else f"{self.count:,} rows"
        return f"<FeatureStatistics d = {self.d}, n_targets = {self.n_targets}: {rows}>"

    # ---- adding rows ----

    def update(self, H: Array | Rows, Y: Array | Rows | None = None) -> FeatureStatistics:
        """Add a batch; when it raises, nothing was added.

        On a CUDA device values are not looked at before the next `report`, `count` or other look at the sums: a batch
        with rows that are not finite, or whose squares leave the range of float64, is left out, and the look raises
        what `update` would have, once. Batches may come on several streams: each waits there for the one before.

        Parameters
        ----------
        H : (B, d) array or tensor
            Any float dtype and strides; B may be 0. Not changed; of few rows copies are kept.
        Y : (B, n_targets) array or tensor, optional
            (B,) for one target. On the device of H, or on the host, from where it is copied.

        Returns
        -------
        FeatureStatistics
            itself

        Raises
        ------
        TypeError, ValueError, RuntimeError
            The batch is no float matrix, has other widths, holds rows that are not finite, or lies on a device that
            cannot be used; or a first batch comes while a CUDA graph is being captured.
        """
        features = rows_in_place(H, "H")
        targets = None if Y is None else rows_in_place(Y, "Y", vector_is_column=True)
        if targets is not None and targets.count != features.count:
            msg = f"H has {features.count} rows and Y has {targets.count}; one per sample is expected in both"
            raise ValueError(msg)
        chunk = Chunk(features, targets)
        skips = self.nonfinite == "skip"
        moments = self._moments
        with self._guard.lock:  # batches may come from several threads
            self._snapshot = None  # it is not small
            if not features.backend.is_host:
                self._kept = None
                moments.add_chunk(chunk)  # and nothing waits
                return self
            moments.check()  # what a device has refused is told before anything is added
            kept = self._rows_before()
            if skips and not moments.has_shift:
                chunk = chunk.finite()  # the shift comes from rows that are kept
            add_finite(moments, chunk, skips=skips)
            self._keep(None if kept is None else kept.with_rows(chunk, skips=skips))
        return self

    def check(self) -> FeatureStatistics:
        """Wait for the batches on devices; returns itself.

        Raises
        ------
        NonFiniteRowsError, ValueError
            Some were not added, and no error has told of it before.
        """
        self._moments.check()
        return self

    def reset(self) -> FeatureStatistics:
        """Forget all rows; returns itself."""
        with self._guard.lock:
            self._snapshot = None
            self._kept = None
            self._moments.clear()
            self._keep(KeptRows(self.d, self.n_targets))
            self._is_total = False
        return self

    def __iadd__(self, other: object) -> Self:
        """Merge in place."""
        if not isinstance(other, FeatureStatistics):
            return NotImplemented
        self.merge(other)
        return self

    def merge(self, other: object) -> FeatureStatistics:
        """Add the rows of another part, whatever its shift; returns itself.

        Raises
        ------
        TypeError, ValueError
            It is something else, or its sizes differ.
        """
        if not isinstance(other, FeatureStatistics):
            msg = f"a {type(other).__name__} cannot be merged into statistics"
            raise TypeError(msg)
        theirs, rows = other._moments_and_rows()  # before: it may be this very object
        with self._guard.lock:
            self._snapshot = None
            kept = self._rows_before()
            self._moments.merge(theirs)
            self._keep(None if kept is None else kept.followed_by(rows))
        return self

    def all_reduce(self, group: ProcessGroup | None = None) -> FeatureStatistics:
        """Add up the parts of all processes of a group, so that each holds the whole; returns itself.

        Parameters
        ----------
        group : torch.distributed.ProcessGroup, optional
            The default group if it is not given. Every process must call, those without rows too.

        Raises
        ------
        RuntimeError
            torch.distributed was not initialised, or these statistics hold the rows of all processes already.
        ValueError
            The statistics of the processes differ in their sizes; all of them raise.
        """
        if self._is_total:
            msg = "these statistics hold the rows of all processes already; reset() them before new rows are added up"
            raise RuntimeError(msg)
        team = Team(group)
        self._moments.require_same_kind(team)
        with self._guard.lock:
            self._snapshot = None
            kept = self._rows_before()
            self._moments.reduce(team)
            self._keep(rows_of_all(kept, team))
            self._is_total = True
        return self

    def report(
        self,
        W: Array | Rows | None = None,
        b: Array | Rows | None = None,
        *,
        n: int | None = None,
        convention: ConventionName | Convention = "nrc24",
        penalties: PenaltyProduct | None = None,
        rtol: float = 1e-3,
        by_k: ByK = "leading",
        spectrum: Spectrum = "auto",
    ) -> Report:
        """Every metric that the statistics allow, each with its bound.

        Parameters
        ----------
        W : (n, d) array or tensor, optional
            Weights of the last layer.
        b : (n,) array or tensor, optional
            Its bias; ``mse``, ``r2`` and the balance of the head need it.
        n : int, optional
            Number of components of NRC1. Taken from W, else from the targets, else it must be given.
        convention : str or Convention
            Definition of NRC1 and NRC2, see `nrc_fast.CONVENTIONS`.
        penalties : object with an attribute ``c``, optional
            Sets the c = lambda_W lambda_H of the prediction; else it is the measured gamma.
        rtol : float
            As in `measure` where few rows are kept; else it has no effect, as rows cannot be read again.
        by_k : {"leading", "all"}
            How far ``nrc1_by_k`` goes: up to max(16, 2n + 2) components, or to all d.
        spectrum : {"auto", "full"}
            How many eigenvalues are found: all up to 1,024 features and the leading ones beyond, or all at any width.

        Returns
        -------
        Report
            Of few rows, which are kept, that of `measure`. Of others values below their bound are only known to be no
            larger, and what needs a second read is NaN, such as id25: their rows cannot be read again from here.

        Raises
        ------
        TypeError, ValueError
            There are no rows, or the weights do not fit them.
        """
        require_tolerance(rtol)
        moments, kept = self._moments_and_rows()
        if moments.count == 0:
            msg = "no rows were added; there is nothing to report"
            raise ValueError(msg)
        moments.require_scale()
        head = Head(W, b, n, d=self.d, n_targets=self.n_targets)
        wishes = Wishes(resolve_convention(convention), rtol, extent_of(by_k, spectrum), penalties)
        if kept is None:
            return report_of(Evidence(moments), head, wishes)
        report = report_of(kept.evidence(moments.dtype, moments.precision, wishes), head, wishes)
        return replace(report, dtype=moments.dtype, skipped_rows=moments.skipped)

    # ---- files and copies ----

    def save(self, path: str | Path) -> None:
        """Write the statistics to a .npz file, all or nothing; `load` reads it.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            There is a file that holds something else, which would be lost.
        """
        options = {"nonfinite": self.nonfinite, "is_total": self._is_total}
        save_sums(Path(path), self._moments, options=options, arrays=self.arrays())

    @classmethod
    def load(cls, path: str | Path) -> FeatureStatistics:
        """Read statistics that `save` wrote, on this or another machine.

        Raises
        ------
        OSError
            The file is missing or damaged.
        ValueError
            It holds something else, or was written by a newer version.
        """
        header, arrays = load_sums(Path(path))
        try:
            return cls._from_file(header, arrays)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            msg = f"{path} is damaged: {type(error).__name__} {error}"
            raise OSError(msg) from error

    @classmethod
    def _from_file(cls, header: dict[str, Any], arrays: dict[str, FloatArray]) -> FeatureStatistics:
        d, n_targets = sizes_of_sums(header, arrays)  # before there is memory for what the header announces
        statistics = cls(
            d,
            n_targets=n_targets,
            unit_rows=header["unit_rows"],
            precision=header["precision"],
            nonfinite=header["options"].get("nonfinite", "raise"),
        )
        statistics._is_total = header["options"].get("is_total", False)
        return statistics.restore(arrays)

    def arrays(self) -> dict[str, FloatArray]:
        """Everything that adds up, the shifts, and few rows, as float64 arrays by name; not copies."""
        moments, kept = self._moments_and_rows()
        return moments.arrays() | ({} if kept is None else kept.arrays())

    def restore(self, arrays: dict[str, FloatArray]) -> FeatureStatistics:
        """Take over what `arrays` gave, in place of all rows; returns itself.

        Raises
        ------
        ValueError
            Something is missing, has another shape or is not finite, or the rows are others than were counted.
        """
        kept = restored_rows(arrays, self.d, self.n_targets)
        with self._guard.lock:
            self._snapshot = None
            before, self._kept = self._kept, None
            try:
                self._moments.restore(arrays)
            except ValueError:
                self._kept = before
                raise
            self._keep(kept)
        return self

    def __getstate__(self) -> dict[str, Any]:
        # What lies on a device is brought to the host.
        names = ("d", "n_targets", "unit_rows", "precision", "nonfinite")
        return {name: getattr(self, name) for name in names} | {"is_total": self._is_total, "arrays": self.arrays()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays, is_total = state.pop("arrays"), state.pop("is_total")
        FeatureStatistics.__init__(self, state.pop("d"), **state)
        self._is_total = is_total
        self.restore(arrays)
