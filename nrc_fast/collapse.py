"""The public functions: NRC1, NRC2, NRC3 and the report that holds all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, SupportsFloat, overload

import numpy as np

from nrc_fast import kernels, metrics
from nrc_fast.bounds import residual_bound
from nrc_fast.conventions import CONVENTIONS, Convention, resolve_convention
from nrc_fast.kernels import Basis
from nrc_fast.linalg import EPSILON, FloatArray, covariance_spectrum, row_space_basis, scale_to_unit
from nrc_fast.passes import (
    PrincipalBasis,
    careful_nrc1_by_k,
    careful_residuals,
    gather,
    mean_of,
    nrc1_by_k,
    principal_basis,
    residual_value,
)
from nrc_fast.report import Report
from nrc_fast.sources import ArraySource
from nrc_fast.ufm.closed_form import Prediction, predicted_spectrum

__all__ = ["measure", "nrc1", "nrc2", "nrc3", "nrc3_curve", "nrc3_gamma"]

# The variance outside the components against NRC1 of uncentered rows: below this the plane does not hold the origin.
AFFINE_RATIO = 0.1
AFFINE_NRC1 = 1e-3


# ---- NRC1 ----


@overload
def nrc1(
    H: Any,
    n: int,
    *,
    convention: str | Convention = ...,
    device: str | None = ...,
    precision: str = ...,
    nonfinite: str = ...,
    rtol: float = ...,
) -> float: ...


@overload
def nrc1(
    H: Any,
    n: Sequence[int] | None,
    *,
    convention: str | Convention = ...,
    device: str | None = ...,
    precision: str = ...,
    nonfinite: str = ...,
    rtol: float = ...,
) -> FloatArray: ...


def nrc1(
    H: Any,
    n: int | Sequence[int] | None,
    *,
    convention: str | Convention = "nrc24",
    device: str | None = None,
    precision: str = "high",
    nonfinite: str = "raise",
    rtol: float = 1e-3,
) -> float | FloatArray:
    r"""NRC1: how much of the features lies outside their first n principal components.

    ``(1/N) sum_i || x_i - U U^T x_i ||^2`` with U the leading n eigenvectors of the covariance of the features and,
    under the default convention, x_i = h_i/||h_i||. See `nrc_fast.CONVENTIONS` for the other definitions in use.

    Parameters
    ----------
    H : (N, d) array or tensor
        Features, a row for each sample; float64, float32, float16 or bfloat16, any strides. Not changed.
    n : int, sequence of ints, or None
        Number of components, usually the target dimension. None: every k = 1..d at once.
    convention : str or Convention
    device : str, optional
        None follows the input; a name is an order.
    precision : {"high", "highest", "fast"}
        "highest" computes in float64 throughout; else rows that are not float64 are multiplied in float32 blocks
        that are added up in float64.
    nonfinite : {"raise", "skip"}
        What to do with rows that hold NaN or infinite values.
    rtol : float
        With n = None, rows are read again where the rounding of the first read may exceed `rtol` of a value.

    Returns
    -------
    float or float64 array
        A float for an int, else one element for each number of components. NaN if all rows are zero; 0 for n = d.

    Raises
    ------
    TypeError, ValueError
        H is no float matrix, has no or not finite rows, n is not in 1..d, or an option is unknown.
    RuntimeError
        The device cannot be used.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> H = np.array([[2.0, 1.0], [-2.0, 1.0]])
    >>> round(nrc1(H, 1), 12), round(nrc1(H, 1, convention="id25"), 12)
    (0.2, 0.0)
    """
    kernels.require_device(device)
    chosen = resolve_convention(convention)
    source = ArraySource(H, nonfinite=nonfinite)
    d = source.features.columns
    if n is None:
        values, _ = careful_nrc1_by_k(source, chosen, precision=precision, rtol=rtol)
        return values
    numbers = _component_numbers(n, d)
    statistics = gather(source, precision=precision)
    k = max(numbers)
    basis = principal_basis(source, statistics, k, centered=chosen.centered_basis)
    shift = basis.mean if chosen.centered_rows else None
    (sums,), _ = careful_residuals(source, [Basis(basis.vectors, shift)], collapsed=basis.collapsed)
    values = np.array([residual_value(chosen, sums, j, source.count, d)[0] for j in numbers])
    return float(values[0]) if np.ndim(n) == 0 else values


def _component_numbers(n: int | Sequence[int], d: int) -> list[int]:
    numbers = np.atleast_1d(np.asarray(n))
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        msg = f"n is {n!r}; a whole number of components, a sequence of them or None is expected"
        raise TypeError(msg)
    if numbers.min() < 1 or numbers.max() > d:
        msg = f"n is {n!r}; it must lie between 1 and d = {d}, the number of features"
        raise ValueError(msg)
    return [int(number) for number in numbers]


# ---- NRC2 ----


def nrc2(
    H: Any,
    W: Any,
    *,
    convention: str | Convention = "nrc24",
    device: str | None = None,
    nonfinite: str = "raise",
) -> float:
    r"""NRC2: how much of the features lies outside the row space of the last layer's weights.

    ``(1/N) sum_i || x_i - Q^T Q x_i ||^2`` with Q an orthonormal basis of the rows of W and x_i as in `nrc1`.

    Parameters
    ----------
    H : (N, d) array or tensor
    W : (n, d) array or tensor
        As in ``torch.nn.Linear.weight``; any rank. Singular values up to ``sigma_max max(n, d) eps`` of W's own
        dtype count as zero.
    convention, device, nonfinite
        As in `nrc1`.

    Returns
    -------
    float
        NaN if W = 0 or all rows are zero.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `nrc1`, and ValueError if W does not fit H.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> nrc2(np.array([[3.0, 4.0], [6.0, 8.0]]), np.array([[2.0, 0.0]]))
    0.64
    """
    kernels.require_device(device)
    chosen = resolve_convention(convention)
    source = ArraySource(H, nonfinite=nonfinite)
    basis = _weight_basis(W, source.features.columns)
    if len(basis) == 0:
        return math.nan
    shift = mean_of(source) if chosen.centered_rows else None
    (sums,), _ = careful_residuals(source, [Basis(basis, shift)], collapsed=False)
    return residual_value(chosen, sums, len(basis), source.count, source.features.columns)[0]


def _weight_basis(W: Any, d: int) -> FloatArray:
    weights, epsilon = kernels.as_matrix(W, "W")
    if weights.shape[1] != d:
        msg = f"W has shape {weights.shape} and H has {d} features; W must be (n, {d})"
        raise ValueError(msg)
    return row_space_basis(weights, epsilon)


# ---- NRC3 ----


def nrc3(W: Any, Y: Any = None, *, gamma: float | None = None, covariance: Any = None) -> float:
    r"""NRC3: distance of the shape of W W^T from the one that theory predicts.

    ``|| W W^T/|W W^T| - A/|A| ||_F^2`` with ``A = Sigma^(1/2) - gamma^(1/2) I``, Sigma the covariance of the targets
    (1/N, the symmetric root) and gamma in [0, lambda_min(Sigma)] the exact minimiser unless it is given.

    Parameters
    ----------
    W : (n, d) array or tensor
    Y : (N, n) or (N,) array or tensor
        Targets. Give either these or `covariance`.
    gamma : float, optional
    covariance : (n, n) array or tensor, optional
        Covariance of the targets.

    Returns
    -------
    float
        In [0, 2]; NaN for n = 1, W = 0 or targets without variance.

    Raises
    ------
    TypeError, ValueError
        Arrays that are no finite float matrices or do not fit, or gamma outside [0, lambda_min].

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1. Its theorem F.1 minimises an un-normalised distance and is not used.

    Examples
    --------
    >>> import numpy as np
    >>> Y = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> W = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> round(nrc3(W, Y, gamma=0.0), 6), nrc3_gamma(W, Y)
    (0.102633, 0.0)
    """
    head, sigma = _head_and_covariance(W, Y, covariance)
    if gamma is None:
        return metrics.nrc3_value(head, sigma, metrics.optimal_gamma(head, sigma))
    (checked,) = _check_gammas([gamma], sigma)
    return metrics.nrc3_value(head, sigma, checked)


def nrc3_gamma(W: Any, Y: Any = None, *, covariance: Any = None) -> float:
    """The gamma in [0, lambda_min] that NRC3 is smallest at, in closed form.

    At an exact minimum of the unconstrained feature model it is lambda_W lambda_H.

    Parameters
    ----------
    W, Y, covariance
        As in `nrc3`.

    Returns
    -------
    float
        NaN for n = 1, W = 0 or targets without variance; 0 if NRC3 does not depend on gamma.

    Raises
    ------
    TypeError, ValueError
        As `nrc3`.

    Examples
    --------
    >>> import numpy as np
    >>> sigma = np.diag([4.0, 1.0])
    >>> W = np.diag([1.5, 0.5]) ** 0.5   # W W^T = Sigma^(1/2) - 0.25^(1/2) I
    >>> round(nrc3_gamma(W, covariance=sigma), 12)
    0.25
    """
    return metrics.optimal_gamma(*_head_and_covariance(W, Y, covariance))


def nrc3_curve(W: Any, Y: Any, gammas: Any, *, covariance: Any = None) -> FloatArray:
    """NRC3 for many gammas.

    Parameters
    ----------
    W, Y, covariance
        As in `nrc3`.
    gammas : sequence of float
        Each in [0, lambda_min].

    Returns
    -------
    float64 array
        One value for each gamma.

    Raises
    ------
    TypeError, ValueError
        As `nrc3`.

    Examples
    --------
    >>> import numpy as np
    >>> nrc3_curve(np.eye(2), None, [0.0, 0.25], covariance=np.diag([4.0, 1.0])).round(3).tolist()
    [0.103, 0.211]
    """
    head, sigma = _head_and_covariance(W, Y, covariance)
    return metrics.nrc3_curve_values(head, sigma, np.array(_check_gammas(gammas, sigma)))


def _head_and_covariance(W: Any, Y: Any, covariance: Any) -> tuple[FloatArray, FloatArray]:
    weights, _ = kernels.as_matrix(W, "W")
    n = weights.shape[0]
    if (Y is None) == (covariance is None):
        msg = "give either the targets Y or their covariance"
        raise ValueError(msg)
    if covariance is not None:
        sigma, epsilon = kernels.as_matrix(covariance, "covariance")
        _check_covariance(sigma, epsilon, n)
    else:
        targets = ArraySource(kernels.as_rows(Y, "Y", vector_is_column=True))
        if targets.features.columns != n:
            msg = f"W has {n} rows and Y has {targets.features.columns} columns; both are the target dimension n"
            raise ValueError(msg)
        sigma = gather(targets, precision="highest").covariance
    return metrics.head_gram(scale_to_unit(weights)[0]), sigma


def _check_covariance(sigma: FloatArray, epsilon: float, n: int) -> None:
    if sigma.shape != (n, n):
        msg = f"covariance has shape {sigma.shape}; with {n} rows of W it must be ({n}, {n})"
        raise ValueError(msg)
    scale = float(np.abs(sigma).max())
    if float(np.abs(sigma - sigma.T).max()) > 8 * n * epsilon * scale:
        msg = "covariance is not symmetric"
        raise ValueError(msg)
    smallest = float(np.linalg.eigvalsh(sigma)[0])
    if smallest < -8 * n * epsilon * scale:
        msg = f"covariance has the negative eigenvalue {smallest:.3g}; a covariance has none"
        raise ValueError(msg)


def _check_gammas(gammas: Any, sigma: FloatArray) -> list[float]:
    eigenvalues = np.linalg.eigvalsh(sigma)
    largest = max(float(eigenvalues[0]), 0.0)
    # lambda_min itself is known to a few units of the largest eigenvalue.
    slack = 8 * len(eigenvalues) * EPSILON * max(float(eigenvalues[-1]), 0.0)
    checked = []
    for gamma in gammas:
        if not isinstance(gamma, SupportsFloat) or isinstance(gamma, (str, bytes)):
            msg = f"gamma is {gamma!r}; a number is expected"
            raise TypeError(msg)
        value = float(gamma)
        if not 0.0 <= value <= largest + slack:
            msg = f"gamma is {value:.6g}; it must lie in [0, lambda_min] = [0, {largest:.6g}]"
            raise ValueError(msg)
        checked.append(min(value, largest))
    return checked


# ---- everything at once ----


def measure(
    H: Any,
    Y: Any = None,
    W: Any = None,
    b: Any = None,
    *,
    n: int | None = None,
    convention: str | Convention = "nrc24",
    penalties: Any = None,
    device: str | None = None,
    precision: str = "high",
    nonfinite: str = "raise",
    rtol: float = 1e-3,
) -> Report:
    """Every metric that the inputs allow, each with a bound of its error.

    Parameters
    ----------
    H : (N, d) array or tensor
        Features.
    Y : (N, n) or (N,) array or tensor, optional
        Targets.
    W : (n, d) array or tensor, optional
        Weights of the last layer.
    b : (n,) array or tensor, optional
        Its bias; ``mse`` and ``r2`` need it. Give zeros for a layer without bias.
    n : int, optional
        Number of components of NRC1. Taken from W, else from Y, else it must be given.
    convention, device, precision, nonfinite
        As in `nrc1`.
    penalties : object with an attribute ``c``, optional
        Sets the c = lambda_W lambda_H of the prediction; without it c is the measured gamma.
    rtol : float
        A value taken from the statistics is replaced by one from another read of the rows where its bound exceeds
        `rtol` of it.

    Returns
    -------
    Report

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `nrc1`, and ValueError for arrays that do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> Y = rng.standard_normal((500, 2))
    >>> W = rng.standard_normal((2, 8))
    >>> H = Y @ np.linalg.pinv(W).T            # features in the row space of W that fit the targets exactly
    >>> report = measure(H, Y, W, np.zeros(2))
    >>> report.nrc1 < 1e-28, report.nrc2 < 1e-28, report.mse < 1e-28, report.r2
    (True, True, True, 1.0)
    """
    kernels.require_device(device)
    chosen = resolve_convention(convention)
    source = ArraySource(H, Y, nonfinite=nonfinite)
    return _Measurement(source, W, b, n, chosen, penalties, precision, rtol).report()


class _Measurement:
    """The steps of `measure`, in the order in which they read the rows."""

    def __init__(
        self,
        source: ArraySource,
        W: Any,
        b: Any,
        n: int | None,
        convention: Convention,
        penalties: Any,
        precision: str,
        rtol: float,
    ) -> None:
        self.source = source
        self.convention = convention
        self.penalties = penalties
        self.rtol = rtol
        self.d = source.features.columns
        self.weights = None if W is None else kernels.as_matrix(W, "W")[0]
        self.weight_basis = np.zeros((0, self.d)) if W is None else _weight_basis(W, self.d)
        self.n = self._target_dimension(n)
        self.bias = self._check_bias(b)
        self.statistics = gather(source, unit_rows=_needs_unit_rows(convention), precision=precision)
        self.basis: PrincipalBasis = principal_basis(
            source, self.statistics, self.n, centered=convention.centered_basis
        )
        self.bounds: dict[str, float | FloatArray] = {}
        self.notes: list[str] = []

    def _target_dimension(self, n: int | None) -> int:
        sizes = {
            "n": n,
            "the rows of W": None if self.weights is None else self.weights.shape[0],
            "the columns of Y": None if self.source.targets is None else self.source.targets.columns,
        }
        known = {name: size for name, size in sizes.items() if size is not None}
        if not known:
            msg = "n is not known: give W, Y or n=, the number of target dimensions"
            raise ValueError(msg)
        if len(set(known.values())) > 1:
            listed = ", ".join(f"{name}: {size}" for name, size in known.items())
            msg = f"the target dimension differs ({listed})"
            raise ValueError(msg)
        return _component_numbers(next(iter(known.values())), self.d)[0]

    def _check_bias(self, b: Any) -> FloatArray | None:
        if b is None:
            return None
        if self.weights is None:
            msg = "b was given without W; the prediction W h + b needs both"
            raise ValueError(msg)
        bias = kernels.as_matrix(kernels.as_rows(b, "b", vector_is_column=True).owner, "b")[0]
        if bias.shape != (self.n, 1):
            msg = f"b has {bias.shape[0]} values; one for each of the {self.n} rows of W is expected"
            raise ValueError(msg)
        return bias[:, 0]

    def report(self) -> Report:
        statistics = self.statistics
        eigenvalues, eigenvectors = covariance_spectrum(statistics.covariance)
        nrc1_value, nrc2_value, leading, alternatives = self._residual_metrics()
        by_k, by_k_bounds = nrc1_by_k(self.source, statistics, self.convention)
        by_k[: self.n], by_k_bounds[: self.n] = leading
        self.bounds["nrc1_by_k"] = by_k_bounds
        target_metrics = self._target_metrics(eigenvalues, eigenvectors)
        self._note_affine_collapse(nrc1_value, alternatives)
        return Report(
            samples=self.source.count,
            d=self.d,
            n=self.n,
            dtype=self.source.features.dtype,
            backend=f"cpu ({kernels.current_isa()}, {kernels.thread_count()} threads)",
            convention=self.convention.name,
            nrc1=nrc1_value,
            nrc1_by_k=by_k,
            nrc2=nrc2_value,
            explained_variance_ratio=metrics.explained_variance_ratio(eigenvalues),
            effective_rank=metrics.effective_rank(eigenvalues),
            stable_rank=metrics.stable_rank(eigenvalues),
            zero_rows=statistics.zero_rows,
            skipped_rows=self.source.skipped,
            bounds=self.bounds,
            alternatives=alternatives,
            notes=tuple(self.notes),
            **target_metrics,
        )

    # ---- NRC1 and NRC2 ----

    def _residual_metrics(
        self,
    ) -> tuple[float, float, tuple[FloatArray, FloatArray], dict[str, dict[str, float]]]:
        """NRC1 and NRC2 under every convention that the same read gives."""
        shift = self.basis.mean
        bases = [Basis(self.basis.vectors), Basis(self.basis.vectors, shift)]
        rank = len(self.weight_basis)
        if rank:
            bases += [Basis(self.weight_basis), Basis(self.weight_basis, shift)]
        sums, is_double = careful_residuals(self.source, bases, collapsed=self.basis.collapsed)
        count, d = self.source.count, self.d
        alternatives: dict[str, dict[str, float]] = {}
        for convention in CONVENTIONS.values():
            if convention == self.convention or convention.centered_basis != self.convention.centered_basis:
                continue
            index = int(convention.centered_rows)
            values = {"nrc1": residual_value(convention, sums[index], self.n, count, d)[0]}
            if rank:
                values["nrc2"] = residual_value(convention, sums[index + 2], rank, count, d)[0]
            alternatives[convention.name] = values
        index = int(self.convention.centered_rows)
        leading = np.array([residual_value(self.convention, sums[index], k, count, d) for k in range(1, self.n + 1)])
        bounds = np.array(
            [
                residual_bound(value, energy, angle, d, count, double_precision=is_double)
                for (value, energy), angle in zip(leading, self.basis.angles, strict=True)
            ]
        )
        self.bounds["nrc1"] = float(bounds[-1])
        nrc2_value = math.nan
        if rank:
            nrc2_value, energy = residual_value(self.convention, sums[index + 2], rank, count, d)
            angle = EPSILON * d + (self.basis.mean_error if index else 0.0)
            self.bounds["nrc2"] = residual_bound(nrc2_value, energy, angle, d, count, double_precision=is_double)
        return float(leading[-1, 0]), nrc2_value, (leading[:, 0], bounds), alternatives

    def _note_affine_collapse(self, value: float, alternatives: dict[str, dict[str, float]]) -> None:
        if self.convention.centered_rows or "variance" not in alternatives:
            return
        variance = alternatives["variance"]["nrc1"]
        if value > AFFINE_NRC1 and variance < AFFINE_RATIO * value:
            self.notes.append(
                f"NRC1 under {self.convention.name} is {value:.3g} although only {variance:.1e} of the variance lies "
                f"outside the first {self.n} components: the features lie near an affine plane that does not hold "
                "the origin. Conventions id25 and variance measure the collapse to such a plane."
            )

    # ---- NRC3, errors and what the targets predict ----

    def _target_metrics(self, eigenvalues: FloatArray, eigenvectors: FloatArray) -> dict[str, Any]:
        statistics = self.statistics
        if self.source.targets is None:
            return {}
        sigma = statistics.target_covariance
        cross = statistics.cross_covariance
        variance = float(np.trace(sigma))
        relative = statistics.relative_error
        # Directions whose variance cannot be told from rounding are not read from.
        resolved = np.where(eigenvalues > 4.0 * statistics.covariance_error, eigenvalues, 0.0)
        values: dict[str, Any] = {
            "cka": metrics.linear_cka(statistics.covariance, sigma, cross),
            "linear_mse": metrics.linear_readout_error(resolved, eigenvectors, sigma, cross),
        }
        self.bounds["cka"] = 4.0 * relative * self.d**0.5
        self.bounds["linear_mse"] = self._readout_bound(resolved, eigenvectors, cross, variance)
        if self.weights is not None:
            head = metrics.head_gram(scale_to_unit(self.weights)[0])
            values["gamma"] = metrics.optimal_gamma(head, sigma)
            values["nrc3"] = metrics.nrc3_value(head, sigma, values["gamma"])
        if self.bias is not None:
            values["mse"] = self._prediction_error()
            values["r2"] = metrics.r_squared(values["mse"], sigma)
            self.bounds["r2"] = float(self.bounds["mse"]) / variance if variance > 0.0 else math.nan
        values["ufm"] = self._prediction(sigma, values.get("gamma", math.nan))
        return values

    def _readout_bound(self, eigenvalues: FloatArray, vectors: FloatArray, cross: FloatArray, variance: float) -> float:
        """Every direction explains |v^T C_hy|^2/lambda of the variance, and all three are a little off."""
        kept = eigenvalues > 0.0
        loadings = np.linalg.norm(vectors.T[kept] @ cross, axis=1)
        error = self.statistics.covariance_error
        cross_error = self.statistics.relative_error * math.sqrt(float(eigenvalues.sum()) * variance)
        explained = loadings**2 * error + 2.0 * loadings * cross_error * eigenvalues[kept]
        total = float((explained / eigenvalues[kept] ** 2).sum())
        return min(total + 4.0 * self.d * EPSILON * variance, variance)

    def _prediction_error(self) -> float:
        assert self.weights is not None
        assert self.bias is not None
        statistics = self.statistics
        value = metrics.prediction_error_from_moments(
            self.weights,
            self.bias,
            statistics.mean,
            statistics.target_mean,
            statistics.covariance,
            statistics.target_covariance,
            statistics.cross_covariance,
        )
        largest = float(np.linalg.norm(self.weights, 2))
        size = largest**2 * float(np.trace(statistics.second_moment)) + float(np.trace(statistics.target_covariance))
        bound = 8.0 * statistics.relative_error * size
        if bound > self.rtol * value:
            errors = np.zeros(self.n)
            for chunk in self.source.chunks():
                assert chunk.targets is not None
                errors += kernels.prediction_error(chunk.features, self.weights, self.bias, chunk.targets)
            value = float(errors.sum()) / self.source.count
            rounding = self.d**0.5 * EPSILON * size**0.5
            bound = 2.0 * rounding * value**0.5 + rounding**2
        self.bounds["mse"] = bound
        return value

    def _prediction(self, sigma: FloatArray, gamma: float) -> Prediction | None:
        c = gamma if self.penalties is None else float(self.penalties.c)
        if math.isnan(c) or not float(np.trace(sigma)) > 0.0:
            return None
        return predicted_spectrum(sigma, c)


def _needs_unit_rows(convention: Convention) -> bool:
    return convention.unit_rows and not convention.centered_rows
