"""What floors of the error have in common: their numbers at one strength of the penalties, and their figure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.kept_values import cached_property
from nrc_fast.reports.plots.error_floors import plot_error_floor
from nrc_fast.reports.plots.panels import GivenAxes, GivenPath, finished
from nrc_fast.ufm.correlations import Correlations, correlations_of
from nrc_fast.ufm.eigenvalues import Spectrum
from nrc_fast.ufm.inputs import Batched, BatchedInt
from nrc_fast.ufm.targets import TargetMoments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CommonFloor"]


class CommonFloor(ABC):
    """A floor of the error for the moments of some targets, known for every strength of the penalties and one of these.

    Attributes
    ----------
    moments : TargetMoments
    eigenvalues : (n,) float64 array
        Eigenvalues of the target covariance, descending.
    """

    moments: TargetMoments
    eigenvalues: FloatArray

    def __repr__(self) -> str:
        return str(self)

    @property
    @abstractmethod
    def axis(self) -> str:
        """What figures draw the numbers against."""

    @property
    @abstractmethod
    def position(self) -> float:
        """Where this floor is on that axis."""

    @property
    @abstractmethod
    def steps(self) -> FloatArray:
        """Where on that axis directions go."""

    @abstractmethod
    def rank_at(self, strength: Array, /) -> BatchedInt:
        """`rank` for one place on the axis or an array of them."""

    @abstractmethod
    def mse_floor_at(self, strength: Array, /) -> Batched:
        """`mse_floor` for one place on the axis or an array of them."""

    @abstractmethod
    def single_task_floor_at(self, strength: Array, /) -> Batched:
        """`single_task_floor` for one place on the axis or an array of them."""

    @abstractmethod
    def standardized_floor_at(self, strength: Array, /) -> Batched:
        """`standardized_floor` for one place on the axis or an array of them."""

    @abstractmethod
    def whitened_floor_at(self, strength: Array, /) -> Batched:
        """`whitened_floor` for one place on the axis or an array of them."""

    @abstractmethod
    def _captured(self) -> float:
        """The variance less the floor, by what is captured: it keeps its digits where that is little."""

    @property
    def n(self) -> int:
        """Number of outputs."""
        return self.moments.n

    @property
    def variance(self) -> float:
        """Total variance of the targets, the error of predicting their mean."""
        return float(sums_along(self.eigenvalues, axis=0))

    @property
    def rank(self) -> int:
        """How many target directions are kept."""
        return int(self.rank_at(self.position))

    @property
    def mse_floor(self) -> float:
        """Floor of the training error of one model for all outputs, see `mse_floor_at`."""
        return float(self.mse_floor_at(self.position))

    @property
    def r2_ceiling(self) -> float:
        """The R2 of that floor, ``1 - mse_floor/variance``; NaN for targets without variance."""
        return self._captured() / self.variance if self.variance > 0.0 else float("nan")

    @property
    def single_task_floor(self) -> float:
        """Floor of the training error of n models with one output each, see `single_task_floor_at`."""
        return float(self.single_task_floor_at(self.position))

    @property
    def standardized_floor(self) -> float:
        """Floor of the error after training on targets over their standard deviations and mapping predictions back.

        NaN where it is open which directions are kept, see `standardized_floor_at`.
        """
        return float(self.standardized_floor_at(self.position))

    @property
    def whitened_floor(self) -> float:
        """Floor of the error after training on ``Sigma^(-1/2) (y - ybar)`` and mapping predictions back.

        NaN where it is open which directions are kept, see `whitened_floor_at`.
        """
        return float(self.whitened_floor_at(self.position))

    @cached_property
    def _spectrum(self) -> Spectrum:
        return self.moments.spectrum()

    @cached_property
    def _correlations(self) -> Correlations | None:
        return correlations_of(self.moments)

    def plot(self, *, path: GivenPath | None = None, ax: GivenAxes | None = None) -> Figure:
        """Draw rank and training MSE against the strength of the penalties; returns the figure of matplotlib.

        Parameters
        ----------
        path : path, optional
            A file to write the figure to as well, in the format that its name ends with.
        ax : pair of matplotlib axes, optional
            Where to draw; a new figure if not given.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        OSError
            The file cannot be written.
        ValueError
            `ax` is no pair, or the name of the file ends with no format that matplotlib knows.
        """
        return finished(plot_error_floor(self, ax), path)
