"""NRC3: the shape of W W^T beside the one that theory predicts from the covariance of the targets.

W W^T and both matrices in the eigenbasis are found in arithmetic of pairs, whose bounds count every rounding at its
worst: bounds are as sure as the error of the covariance that they are given.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import Pair, exactly, outer_squares, summed, two_product
from nrc_fast.base.exact_products import gram, sums_along
from nrc_fast.base.linalg import EPSILON, clipped_spectrum, scale_to_unit
from nrc_fast.base.refined_eigenpairs import in_eigenbasis
from nrc_fast.metrics.best_gamma import DecimalShapes

__all__ = ["GammaChoice", "HeadAlignment", "HeadShape", "head_gram", "head_shape", "long_head_shape"]

# Which gamma a history shows NRC3 for, see `nrc_fast.History.records`.
GammaChoice: TypeAlias = Literal["last", "each"] | float
# Error of W W^T to twice the digits, relative to its trace.
OF_SHAPE = 2.0**-95


def head_gram(weights: FloatArray) -> FloatArray:
    """Gram matrix of the head's rows, ``W @ W.T``, of which each entry is rounded once.

    Parameters
    ----------
    weights : (n, d) float64 array
        Between about 1e-150 and 1e150 in scale, so that squares can be represented. NRC3 does not depend on
        the scale: for any see `head_shape`.

    Returns
    -------
    (n, n) float64 array

    Examples
    --------
    >>> head_gram(np.array([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[5.0, 2.0], [2.0, 1.0]]
    """
    with few_blas_threads(len(weights)):
        return gram(exactly(np.ascontiguousarray(weights.T)))[0].high


def head_shape(weights: FloatArray) -> FloatArray:
    """``W @ W.T`` up to its scale, for weights of any, (n, n).

    Examples
    --------
    >>> head_shape(np.array([[1e-200, 0.0]])).item() > 0.0
    True
    """
    return head_gram(scale_to_unit(weights)[0])


class HeadShape(NamedTuple):
    """``W @ W.T`` up to its scale, with a largest entry of about 1, and a bound of the norm of its error."""

    matrix: Pair
    error: float


def long_head_shape(weights: FloatArray) -> HeadShape:
    """The same to more digits, with what it may be off by.

    Examples
    --------
    >>> shape, error = long_head_shape(np.array([[1.0, 2.0**-30]]))
    >>> shape.high.item(), shape.low.item() == 2.0**-61, error < 1e-22
    (0.5, True, True)
    """
    shape = outer_squares(exactly(np.ascontiguousarray(scale_to_unit(weights)[0].T)))
    _, exponent = scale_to_unit(shape.high)
    matrix = Pair(*(np.ldexp(part, -exponent) for part in shape))
    return HeadShape(matrix, OF_SHAPE * float(np.trace(matrix.high)))


class HeadAlignment:
    r"""NRC3 for every gamma, and the best gamma, from one decomposition of Sigma.

    ``NRC3 = || W W^T / |W W^T|_F - (Sigma^(1/2) - gamma^(1/2) I) / |Sigma^(1/2) - gamma^(1/2) I|_F ||_F^2``

    It is evaluated in the eigenbasis of Sigma, where the second matrix is diagonal and the squares off the
    diagonal do not depend on gamma: O(n) for each gamma. The norm is that of the difference; the equal form
    ``2 - 2 cos`` loses everything below 1e-16.

    Parameters
    ----------
    gram : (n, n) float64 array, or a HeadShape
        ``W @ W.T``; its scale plays no part.
    covariance : (n, n) float64 array, or a pair of them
        Sigma, the covariance of the targets; only the lower triangle is read.

    Attributes
    ----------
    eigenvalues : (n,) float64 array
        The eigenvalues of Sigma, descending; what cannot be told from 0 is 0.
    lowest : float
        The smallest eigenvalue of Sigma as it was computed, which rounding may have made negative.
    gram_error : float
        Bound of the Frobenius norm of the error of W W^T/|W W^T| in the eigenbasis, but for roundings of its entries.
    is_defined : bool
        False for n = 1, W = 0 and Sigma = 0: then everything is NaN.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the eigenvalue iteration does not converge (non-finite entries).

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1 and appendix A.3.

    Examples
    --------
    >>> root = np.array([[2.0, 0.5], [0.5, 1.0]])
    >>> alignment = HeadAlignment(7.0 * (root - 0.1 * np.eye(2)), root @ root)
    >>> round(alignment.best_gamma(), 12)
    0.01
    >>> bool(alignment.nrc3(0.0) > 1e-4), bool(alignment.nrc3(0.01) < 1e-28)
    (True, True)
    """

    most_gamma_name = "lambda_min"

    def __init__(self, gram: FloatArray | HeadShape, covariance: FloatArray | Pair) -> None:
        shape = gram if isinstance(gram, HeadShape) else HeadShape(exactly(scale_to_unit(gram)[0]), 0.0)
        found = in_eigenbasis(covariance if isinstance(covariance, Pair) else exactly(covariance), shape.matrix)
        values, entries = found.values.high, found.matrix.high.copy()
        self.lowest = float(values[-1])
        self.eigenvalues = clipped_spectrum(values)
        norm = math.sqrt(sums_along(entries.ravel() ** 2, axis=0))
        self.is_defined = len(values) > 1 and norm > 0.0 and self.eigenvalues[0] > 0.0
        if not self.is_defined:
            return
        # Of the eigenvalues that are set to 0 too.
        self._eigen_error = found.error + float(np.linalg.norm(values - self.eigenvalues))
        self._matrix_error = found.matrix_error + shape.error
        self.gram_error = self._matrix_error / norm
        self._roots = np.sqrt(self.eigenvalues)
        diagonal = Pair(*(part.diagonal() for part in found.matrix))
        self._diagonal = diagonal.high / norm
        entries.ravel()[:: len(entries) + 1] = 0.0
        self._outside = float(sums_along((entries / norm).ravel() ** 2, axis=0))
        self._beside = entries / norm
        rest = np.where(self.eigenvalues > 0.0, found.values.low, 0.0)
        self._decimal = DecimalShapes(Pair(self.eigenvalues, rest), diagonal, _squares_beside(found.matrix))

    def rotated(self) -> FloatArray:
        """W W^T/|W W^T| in the eigenbasis of Sigma, in the order of `eigenvalues`."""
        whole: FloatArray = self._beside + np.diag(self._diagonal)
        return whole

    def nrc3(self, gamma: float) -> float:
        """NRC3 for one gamma.

        Parameters
        ----------
        gamma : float
            >= 0; it enters as its root.

        Returns
        -------
        float
            In [0, 4]. NaN for n = 1, for W = 0, for a negative gamma, and where the second matrix is zero.

        Examples
        --------
        >>> sigma = np.diag([4.0, 1.0])
        >>> HeadAlignment(np.diag([3.0, 0.0]), sigma).nrc3(1.0), HeadAlignment(np.diag([0.0, 3.0]), sigma).nrc3(1.0)
        (0.0, 2.0)
        """
        if not self.is_defined or not gamma >= 0.0:
            return math.nan
        root = math.sqrt(gamma)
        peak = max(abs(float(self._roots[0]) - root), abs(float(self._roots[-1]) - root))
        # What is left of a difference of equal numbers is noise, which must not be blown up to norm 1.
        is_noise = peak <= self._equality_tolerance() * float(self._roots[0])
        return math.nan if is_noise else self._decimal.distance(gamma)

    def nrc3_curve(self, gammas: FloatArray) -> FloatArray:
        """NRC3 for many gammas.

        Parameters
        ----------
        gammas : (m,) float64 array
            Each >= 0. Above the smallest eigenvalue the second matrix is indefinite; the formula still holds.

        Returns
        -------
        (m,) float64 array
            NRC3 for each gamma, in [0, 4]; NaN where `nrc3` is.

        Examples
        --------
        >>> HeadAlignment(np.eye(2), np.diag([4.0, 1.0])).nrc3_curve(np.array([0.0, 0.25])).round(3).tolist()
        [0.103, 0.211]
        """
        if not self.is_defined:
            return np.full(np.shape(gammas), math.nan)
        # A negative gamma has no root: NaN by definition.
        shifted = self._roots - np.sqrt(np.where(gammas < 0.0, math.nan, gammas))[:, np.newaxis]
        peak = np.abs(shifted).max(axis=1, keepdims=True)
        # What is left of a difference of equal numbers is noise, which must not be blown up to norm 1.
        peak[peak <= self._equality_tolerance() * self._roots[0]] = math.nan
        target = shifted / peak
        target /= np.sqrt(np.square(target).sum(axis=1, keepdims=True))
        values: FloatArray = self._outside + np.square(self._diagonal - target).sum(axis=1)
        return values

    def most_gamma(self, slack: float = 0.0) -> float:
        """The largest gamma that theory allows, of a smallest eigenvalue that is larger by some slack."""
        return max(self.lowest, 0.0) + slack

    def smallest_nrc3(self) -> float:
        """NRC3 at the best gamma."""
        gamma = self.best_gamma()
        value = self.nrc3(gamma)
        # At 0 it may be by convention, where the smallest one is not known.
        return value if math.isnan(value) or gamma == 0.0 else self._decimal.least

    def best_gamma(self) -> float:
        """Exact minimiser of NRC3 over gamma in [0, lambda_min].

        In closed form, see `nrc_fast.metrics.best_gamma`.

        Theorem F.1 of the paper minimises the difference of the two matrices before they are normalised. Its
        gamma is another number unless lambda_H = lambda_W; this one is lambda_W lambda_H at every UFM optimum
        with lambda_W lambda_H <= lambda_min, and the paper's search over 1000 gammas is a grid around it.

        Returns
        -------
        float
            gamma, not its root. NaN for n = 1, W = 0 and a zero covariance. 0.0 for a singular covariance, where
            no other gamma is left, and for a multiple of the identity, where NRC3 does not depend on gamma.

        References
        ----------
        arXiv 2409.04180 (NeurIPS 2024), appendix A.3 for the search; the closed form is this project's.
        """
        if not self.is_defined:
            return math.nan
        return 0.0 if self.eigenvalues[-1] == 0.0 or self._is_flat else self._decimal.best_gamma

    @property
    def _is_flat(self) -> bool:
        """Whether Sigma is a multiple of the identity but for what targets are rounded by themselves."""
        largest, smallest = float(self.eigenvalues[0]), float(self.eigenvalues[-1])
        return largest - smallest <= self._equality_tolerance() * largest

    def gamma_range(self, covariance_error: float) -> tuple[float, float]:
        """The smallest and largest gamma that may be the best one of exact targets and the exact W W^T.

        Sigma that is off by e in norm has a root off by at most ``e / (2 sqrt(lambda_min))``, and by sqrt(e).

        Parameters
        ----------
        covariance_error : float
            Bound of the Frobenius norm of the error of Sigma.

        Returns
        -------
        float, float
            NaN where `best_gamma` is. 0 and about lambda_min where Sigma is a multiple of the identity within its
            error: then the targets do not determine gamma.

        Examples
        --------
        >>> alignment = HeadAlignment(np.diag([3.0, 1.0]), np.eye(2))
        >>> lowest, highest = alignment.gamma_range(1e-15)
        >>> lowest, round(highest, 12)
        (0.0, 1.0)
        """
        if not self.is_defined:
            return math.nan, math.nan
        if self._is_flat:
            return 0.0, float(self.eigenvalues[0]) + covariance_error
        return self._decimal.range(self.root_error(covariance_error), self._matrix_error)

    def gamma_share(self, covariance_error: float) -> tuple[float, float]:
        """The best gamma over lambda_min, and its bound; NaN for singular targets, where both are 0, and as above."""
        if not self.is_defined or not self.eigenvalues[-1] > 0.0:
            return math.nan, math.nan
        share = self._decimal.share if self.best_gamma() > 0.0 else 0.0
        lowest, highest = 0.0, 1.0
        if not self._is_flat:
            lowest, highest = self._decimal.share_range(self.root_error(covariance_error), self._matrix_error)
        return share, max(highest - share, share - lowest, 0.0) + 2.0 * EPSILON * share

    def bounds(self, gamma: float, covariance_error: float) -> tuple[float, float]:
        """Bounds of the best gamma, and of NRC3 for it.

        NRC3 is at most what it is for that gamma with A and W W^T a little off, and at least what is left of it where
        ``A = Sigma^(1/2) - gamma^(1/2) I`` may be turned most, at the upper end of `gamma_range`.

        Parameters
        ----------
        gamma : float
            What `best_gamma` gave.
        covariance_error : float
            Bound of the Frobenius norm of the error of Sigma.

        Returns
        -------
        float, float
            NaN where `best_gamma` is.
        """
        if not self.is_defined:
            return math.nan, math.nan
        lowest, highest = self.gamma_range(covariance_error)
        rounding = 2.0 * EPSILON * gamma  # of these ends, and of what they are apart
        return max(highest - gamma, gamma - lowest) + rounding, self._range_of_nrc3(
            gamma, max(highest, gamma), covariance_error
        )

    def smallest_nrc3_bound(self, covariance_error: float) -> float:
        """Bound of `smallest_nrc3`, from the errors of Sigma and of W W^T; NaN where that is."""
        return self.bounds(self.best_gamma(), covariance_error)[1]

    def nrc3_bound(self, gamma: float, covariance_error: float) -> float:
        """Bound of NRC3 for a gamma that is given, from the errors of Sigma and of W W^T; NaN where NRC3 is."""
        return self._range_of_nrc3(gamma, gamma, covariance_error)

    def _range_of_nrc3(self, gamma: float, highest: float, covariance_error: float) -> float:
        value = self.nrc3(gamma)
        if math.isnan(value):
            return math.nan
        own = 2.0 * self.gram_error
        above, below = (self._turn(end, covariance_error) + own for end in (gamma, highest))
        upper, lower = (2.0 * math.sqrt(value) * turn + turn**2 for turn in (above, below))
        return min(max(upper, min(lower, value)), 4.0) + EPSILON * value

    def _turn(self, gamma: float, covariance_error: float) -> float:
        """Bound of the change of A/|A| from the error of Sigma, and of gamma where it may not exceed its lambda_min."""
        root, error = math.sqrt(gamma), self.root_error(covariance_error)
        size, n = float(np.linalg.norm(self._roots - root)), len(self._roots)
        off = (1.0 + n**0.5) * error if root > self._roots[-1] - error else error
        # Of vectors that are off by a share of their length, the directions are off by at most this.
        return min(off / (size - off), 2.0) if size > off else 2.0

    def root_error(self, covariance_error: float) -> float:
        """Bound of the Frobenius norm of the error of Sigma^(1/2), but for rounding eigenvalues and their roots."""
        error = self.sigma_error(covariance_error)
        smallest = float(self.eigenvalues[-1])
        roots = math.sqrt(smallest) + math.sqrt(max(smallest - error, 0.0))
        return min(error / roots if roots > 0.0 else math.inf, math.sqrt(error))

    def sigma_error(self, covariance_error: float) -> float:
        """Bound of the Frobenius norm of what eigenpairs leave of Sigma, with its own error."""
        return covariance_error + self._eigen_error

    def _equality_tolerance(self) -> float:
        """Relative spread of n equal eigenvalues: n eps from forming the matrix, n eps from eigh, both ways."""
        return 4 * len(self.eigenvalues) * EPSILON


def _squares_beside(matrix: Pair) -> tuple[float, float]:
    """Sum of the squares beside the diagonal, as a pair."""
    high, low = (part.copy() for part in matrix)
    for part in (high, low):
        np.fill_diagonal(part, 0.0)
    squares = two_product(high, high)
    total = summed(Pair(squares.high.ravel(), (squares.low + 2.0 * high * low).ravel()))
    return float(total.high), float(total.low)
