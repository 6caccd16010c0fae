"""A scikit-learn estimator: neural regression collapse as fitted attributes, leading components as a transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.libraries import needs_library
from nrc_fast.base.listing import listing
from nrc_fast.base.options import ByK, NonFinite, Precision, Spectrum
from nrc_fast.measurement.assembly import Wishes, report_of
from nrc_fast.measurement.evidence import gathered
from nrc_fast.measurement.extent import Extent, extent_of
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.measurement.head import Head
from nrc_fast.measurement.single_metrics import nrc2
from nrc_fast.metrics.conventions import ConventionName, resolve_convention
from nrc_fast.metrics.residuals import resolved_rank
from nrc_fast.passes.begin import begin_reading
from nrc_fast.reports.features import Report

with needs_library("sklearn", "this needs sklearn"):
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data

if TYPE_CHECKING:
    from sklearn.utils import Tags
    from typing_extensions import Self

__all__ = ["NRCEstimator"]

__dir__ = listing(__name__, __all__)

# What is measured as it is; other numbers become the first of these.
DTYPES = (np.float64, np.float32, np.float16)
RTOL = 1e-3  # that of `nrc_fast.measure`


class NRCEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Neural regression collapse of features as a scikit-learn estimator, and their leading components.

    ``fit(H, Y)`` is `nrc_fast.measure`; ``partial_fit`` adds batches to `nrc_fast.FeatureStatistics`. ``transform``
    gives the coordinates of rows in the n leading principal components, as ``PCA(n)`` does up to signs, in float64.
    ``score(H)`` is ``-nrc2(H, components_)``: minus the NRC1 of H outside the components that were fitted, which is
    ``-nrc1_`` for the fitted rows. The larger the more collapsed, at most 0; targets are not used. Rows of float64,
    float32 and float16 are measured as they are, other numbers as float64.

    Parameters
    ----------
    n : int, optional
        Number of components of NRC1. Taken from W, else from the targets, else it must be given.
    W, b : (n, d) and (n,) arrays, optional
        Weights and bias of the last layer, for NRC2, NRC3, MSE and R2.
    convention, precision, nonfinite
        Definition of NRC1 and NRC2, precision of the products, and what becomes of rows that are not finite, see
        `nrc_fast.measure`. What "skip" leaves out of the fit is NaN in ``transform``.
    by_k, spectrum : str
        How far `Report.nrc1_by_k` and the eigenvalues of the covariance go, see `nrc_fast.measure`.

    Attributes
    ----------
    nrc1_, nrc2_, nrc3_, gamma_ : float
        NaN for what the inputs do not allow.
    components_ : (k, d) float64 array
        Orthonormal rows. Fewer than n where the features vary in fewer directions.
    mean_ : (d,) float64 array
        What ``transform`` subtracts: the mean of the features, 0 under convention uncentered.
    explained_variance_ratio_ : (n,) float64 array
    report_ : nrc_fast.Report
        Every metric with its bound. After ``partial_fit`` it comes from sums alone: convention id25 is NaN, and values
        below their bound are only known to be no larger.
    statistics_ : nrc_fast.FeatureStatistics
    n_components_, n_samples_seen_, n_features_in_ : int

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    TypeError, ValueError
        Rows or parameters cannot be used, see `nrc_fast.measure`; when the estimator is fitted.

    Examples
    --------
    >>> from nrc_fast.integrations.sklearn import NRCEstimator                # doctest: +SKIP
    >>> collapse = NRCEstimator(W=W).fit(H, Y)                                # doctest: +SKIP
    >>> collapse.nrc1_, collapse.transform(H).shape                           # doctest: +SKIP
    """

    # X, not H, throughout: scikit-learn takes every other name for metadata.

    statistics_: FeatureStatistics
    _report: Report | None
    _asked: dict[str, Any]

    def __init__(
        self,
        n: int | None = None,
        *,
        W: Array | None = None,
        b: Array | None = None,
        convention: ConventionName = "nrc24",
        precision: Precision = "high",
        nonfinite: NonFinite = "raise",
        by_k: ByK = "leading",
        spectrum: Spectrum = "auto",
    ) -> None:
        self.n = n
        self.W = W
        self.b = b
        self.convention = convention
        self.precision = precision
        self.nonfinite = nonfinite
        self.by_k = by_k
        self.spectrum = spectrum

    # ---- fitting ----

    def fit(self, X: Array, y: Array | None = None) -> Self:
        """Measure features (N, d), with targets (N,) or (N, n) where there are any; forgets what was fitted before."""
        X, y = self._rows(X, y, reset=True)
        statistics, head = self._begin(X, y)
        reading = begin_reading(X, y, nonfinite=self.nonfinite, progress=False)
        # With unit rows, so that `partial_fit` can go on from here.
        evidence = gathered(reading, unit_rows=True, precision=self.precision)
        moments = evidence.moments
        report = report_of(evidence, head, Wishes(resolve_convention(self.convention), RTOL, self._extent()))
        statistics.restore(moments.arrays())
        self.statistics_, self._report, self._asked = statistics, report, self._asking(head)
        return self

    def partial_fit(self, X: Array, y: Array | None = None) -> Self:
        """Add a batch of features (B, d), and of targets (B,) or (B, n) where the first batch had them."""
        is_first = not hasattr(self, "statistics_")
        X, y = self._rows(X, y, reset=is_first)
        empty, head = self._begin(X, y)
        statistics = (empty if is_first else self.statistics_).update(X, y)
        self.statistics_, self._report, self._asked = statistics, None, self._asking(head)
        return self

    def _rows(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        """Features and targets as arrays of floats; whether they are finite is seen when they are added up."""
        X = validate_data(self, X, dtype=DTYPES, ensure_all_finite=False, reset=reset)
        if y is not None:
            y = check_array(y, dtype=DTYPES, ensure_2d=False, ensure_all_finite=False, input_name="y")
        return X, y

    def _begin(self, X: Any, y: Any) -> tuple[FeatureStatistics, Head]:
        """Statistics without rows; that the parameters fit the rows is checked before any is added."""
        n_targets = 0 if y is None else (1 if y.ndim == 1 else y.shape[1])
        head = Head(self.W, self.b, self.n, d=X.shape[1], n_targets=n_targets)
        resolve_convention(self.convention)
        self._extent()
        empty = FeatureStatistics(X.shape[1], n_targets=n_targets, precision=self.precision, nonfinite=self.nonfinite)
        return empty, head

    def _asking(self, head: Head) -> dict[str, Any]:
        """What the report of the fitted rows is asked for, whatever the parameters become before the next fit."""
        chosen = {name: getattr(self, name) for name in ("W", "b", "convention", "by_k", "spectrum")}
        return chosen | {"n": head.n}

    def _extent(self) -> Extent:
        return extent_of(self.by_k, self.spectrum)

    # ---- what was fitted ----

    def _require_fitted(self) -> None:
        check_is_fitted(self)

    @property
    def report_(self) -> Report:
        """Every metric with its bound."""
        self._require_fitted()
        if self._report is None:
            self._report = self.statistics_.report(**self._asked)
        return self._report

    @property
    def nrc1_(self) -> float:
        """NRC1 of the fitted rows."""
        return self.report_.nrc1

    @property
    def nrc2_(self) -> float:
        """NRC2; NaN without W."""
        return self.report_.nrc2

    @property
    def nrc3_(self) -> float:
        """NRC3 at its best gamma; NaN without W and targets."""
        return self.report_.nrc3

    @property
    def gamma_(self) -> float:
        """Where NRC3 is smallest."""
        return self.report_.gamma

    @property
    def components_(self) -> FloatArray:
        """The leading components, (k, d)."""
        self._require_fitted()
        n = min(self.report_.n, self.statistics_.d)
        pairs = self.statistics_.moments.leading(n, centered=self._is_centered())
        components: FloatArray = pairs.vectors[: min(n, resolved_rank(pairs.values, pairs.d))].copy()
        return components

    @property
    def mean_(self) -> FloatArray:
        """What `transform` subtracts, (d,)."""
        self._require_fitted()
        return self.statistics_.mean if self._is_centered() else np.zeros(self.statistics_.d)

    @property
    def explained_variance_ratio_(self) -> FloatArray:
        """Share of the variance in each of the leading n components."""
        report = self.report_
        return report.explained_variance_ratio[: report.n]

    @property
    def n_components_(self) -> int:
        """Number of components."""
        return len(self.components_)

    @property
    def n_samples_seen_(self) -> int:
        """Rows that were fitted."""
        self._require_fitted()
        return self.statistics_.count

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _is_centered(self) -> bool:
        return resolve_convention(self._asked["convention"]).centered_basis

    # ---- new rows ----

    def transform(self, X: Array) -> FloatArray:
        """Coordinates ``(x - mean_) components_^T`` of rows in the leading components, (N, k) float64."""
        self._require_fitted()
        projected: FloatArray = (self._new_rows(X) - self.mean_) @ self.components_.T
        return projected

    def score(self, X: Array, y: Array | None = None) -> float:
        """Minus the residual of rows outside the fitted components: of the fitted rows ``-nrc1_``. Larger is better."""
        del y
        self._require_fitted()
        convention = self._asked["convention"]
        return -nrc2(self._new_rows(X), self.components_, convention=convention, nonfinite=self.nonfinite)

    def _new_rows(self, X: Array) -> Any:
        finite = self.nonfinite == "raise"
        return validate_data(self, X, dtype=DTYPES, ensure_all_finite=finite, reset=False)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
