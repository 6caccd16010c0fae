"""What users read of statistics: counts, means, covariances, spectra, and bounds of their errors."""

from __future__ import annotations

from abc import ABC, abstractmethod

from nrc_fast.base.arrays import FloatArray
from nrc_fast.passes.moments import Moments

__all__ = ["MomentsView"]


class MomentsView(ABC):
    """Moments as read-only properties, each of them of one state.

    Parameters
    ----------
    moments : Moments
        That may grow.
    """

    def __init__(self, moments: Moments) -> None:
        self._moments = moments

    @property
    @abstractmethod
    def moments(self) -> Moments:
        """Means, covariances and bounds of their errors as they are now; what is added later does not change them."""

    @property
    def d(self) -> int:
        """Number of features."""
        return self._moments.d

    @property
    def n_targets(self) -> int:
        """Number of target outputs; 0 for features alone."""
        return self._moments.n_targets

    @property
    def unit_rows(self) -> bool:
        """Whether the Gram matrix of the rows h/||h|| is summed too."""
        return self._moments.unit_rows

    @property
    def precision(self) -> str:
        """The precision that was asked for."""
        return self._moments.precision

    @property
    def count(self) -> int:
        """Rows that were added."""
        return self.moments.count

    @property
    def zero_rows(self) -> int:
        """Rows that are all zeros."""
        return self.moments.zero_rows

    @property
    def skipped(self) -> int:
        """Rows that were left out because they were not finite."""
        return self.moments.skipped

    @property
    def dtype(self) -> str:
        """Dtype of the features; "mixed" for several, empty without rows."""
        return self.moments.dtype

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the CUDA devices that hold sums."""
        return self._moments.devices

    # ---- moments ----

    @property
    def mean(self) -> FloatArray:
        """Mean of the features, (d,)."""
        copied: FloatArray = self.moments.mean.copy()
        return copied

    @property
    def covariance(self) -> FloatArray:
        """Population covariance of the features, (d, d): ``(1/N) sum (h - mean)(h - mean)^T``."""
        copied: FloatArray = self.moments.covariance.copy()
        return copied

    @property
    def second_moment(self) -> FloatArray:
        """``(1/N) sum h h^T``, (d, d)."""
        return self.moments.second_moment

    @property
    def unit_second_moment(self) -> FloatArray:
        """``(1/N) sum u u^T`` with u = h/||h||, (d, d); zero rows add nothing.

        Raises
        ------
        ValueError
            The statistics were made with unit_rows=False.
        """
        copied: FloatArray = self.moments.unit_second_moment.copy()
        return copied

    @property
    def target_mean(self) -> FloatArray:
        """Mean of the targets, (n_targets,)."""
        copied: FloatArray = self.moments.target_mean.copy()
        return copied

    @property
    def target_covariance(self) -> FloatArray:
        """Population covariance of the targets, (n_targets, n_targets)."""
        copied: FloatArray = self.moments.target_covariance.copy()
        return copied

    @property
    def cross_covariance(self) -> FloatArray:
        """``(1/N) sum (h - mean_h)(y - mean_y)^T``, (d, n_targets)."""
        copied: FloatArray = self.moments.cross_covariance.copy()
        return copied

    def spectrum(self, *, centered: bool = True) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues, descending, and eigenvectors (columns) of `covariance`, or of `second_moment`."""
        return self.moments.spectrum(centered=centered)

    def readable_spectrum(self) -> tuple[FloatArray, FloatArray]:
        """Spectrum of `covariance`, with 0 for eigenvalues that cannot be told from rounding."""
        return self.moments.readable_spectrum()

    @property
    def variance(self) -> float:
        """Trace of `covariance`: the mean of |h - mean|^2."""
        return self.moments.variance

    @property
    def energy(self) -> float:
        """Trace of `second_moment`: the mean of |h|^2."""
        return self.moments.energy

    # ---- accuracy ----

    @property
    def is_double(self) -> bool:
        """Whether all products were taken in float64."""
        return self.moments.is_double

    @property
    def mean_error(self) -> float:
        """Bound of the norm of the error of `mean`."""
        return self.moments.mean_error

    @property
    def covariance_error(self) -> float:
        """Bound of the spectral norm of the error of `covariance`."""
        return self.moments.covariance_error

    @property
    def relative_error(self) -> float:
        """Bound of the error of `unit_second_moment`, relative to its trace."""
        return self.moments.relative_error

    @property
    def target_mean_error(self) -> float:
        """Bound of the norm of the error of `target_mean`."""
        return self.moments.target_mean_error

    @property
    def target_error(self) -> float:
        """Bound of the norm of the error of `target_covariance`."""
        return self.moments.target_error

    @property
    def cross_error(self) -> float:
        """Bound of the norm of the error of `cross_covariance`."""
        return self.moments.cross_error
