"""`measure`: every metric that the inputs allow, from two reads of the rows, three where they are collapsed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nrc_fast import kernels, metrics
from nrc_fast.bounds import residual_bound
from nrc_fast.collapse import component_numbers, require_tolerance, weight_basis
from nrc_fast.conventions import CONVENTIONS, Convention, resolve_convention
from nrc_fast.kernels import Basis
from nrc_fast.linalg import EPSILON, FloatArray, clipped_spectrum, scale_to_unit
from nrc_fast.passes import (
    PrincipalBasis,
    careful_residuals,
    gather,
    leading_values,
    nrc1_by_k,
    principal_basis,
    residual_value,
)
from nrc_fast.report import Report
from nrc_fast.sources import ArraySource
from nrc_fast.ufm.closed_form import Prediction, predicted_spectrum

__all__ = ["measure"]

# When to say that features lie near an affine plane: this share of their energy lies outside the components, and ten
# times less of their variance.
AFFINE_ENERGY = 1e-3
AFFINE_RATIO = 0.1


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
        Sets the c = lambda_W lambda_H of the prediction, see `nrc_fast.ufm.penalties`; without it, and where its c
        is NaN because no penalty on the features is known, c is the measured gamma.
    rtol : float
        Where the bound of the MSE from the statistics exceeds `rtol` of it, the rows are read again. NRC1 and NRC2
        always come from a read of their own; ``nrc1_by_k`` does up to n, and beyond stays within its bounds
        (``nrc1(H, None)`` reads again for these too).

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
    require_tolerance(rtol)
    if penalties is not None and not hasattr(penalties, "c"):
        msg = f"penalties is a {type(penalties).__name__}; an object with c = lambda_W lambda_H is expected"
        raise TypeError(msg)
    if penalties is not None and np.ndim(penalties.c) > 0:
        msg = f"penalties.c has shape {np.shape(penalties.c)}; one c is expected, for the one training that is measured"
        raise ValueError(msg)
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
        self.weight_basis = np.zeros((0, self.d)) if W is None else weight_basis(W, self.d)
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
        return component_numbers(next(iter(known.values())), self.d)[0]

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
        raw_eigenvalues, eigenvectors = statistics.spectrum()
        eigenvalues = clipped_spectrum(raw_eigenvalues)
        nrc1_value, nrc2_value, leading, alternatives = self._residual_metrics()
        by_k, by_k_bounds, _ = nrc1_by_k(self.source, statistics, self.convention)
        by_k[: self.n], by_k_bounds[: self.n] = leading
        # No component adds to the residual, but the values beyond n have a floor of their own.
        by_k = np.minimum.accumulate(by_k)
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
        leading = leading_values(self.convention, self.basis, sums[index], count, double_precision=is_double)
        self.bounds["nrc1"] = float(leading[1][-1])
        nrc2_value = math.nan
        if rank:
            nrc2_value, energy = residual_value(self.convention, sums[index + 2], rank, count, d)
            angle = EPSILON * d + (self.basis.mean_error if index else 0.0)
            self.bounds["nrc2"] = residual_bound(nrc2_value, energy, angle, d, count, double_precision=is_double)
        return float(leading[0][-1]), nrc2_value, leading, alternatives

    def _note_affine_collapse(self, value: float, alternatives: dict[str, dict[str, float]]) -> None:
        if self.convention.centered_rows or "variance" not in alternatives:
            return
        variance = alternatives["variance"]["nrc1"]
        raw = value if self.convention.name == "raw" else alternatives["raw"]["nrc1"]
        energy = float(np.trace(self.statistics.second_moment))
        # A plane through the origin would hold the energy of the rows as well as their variance.
        if raw > AFFINE_ENERGY * energy and variance < AFFINE_RATIO * raw / energy:
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
        self.bounds["linear_mse"] = self._readout_bound(values["linear_mse"], resolved, eigenvectors, cross, variance)
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

    def _readout_bound(
        self, value: float, eigenvalues: FloatArray, vectors: FloatArray, cross: FloatArray, variance: float
    ) -> float:
        """Every direction explains |v^T C_hy|^2/lambda of the variance, and all three are a little off."""
        kept = eigenvalues > 0.0
        loadings = np.linalg.norm(vectors.T[kept] @ cross, axis=1)
        error = self.statistics.covariance_error
        cross_error = self.statistics.relative_error * math.sqrt(float(eigenvalues.sum()) * variance)
        explained = loadings**2 * error + 2.0 * loadings * cross_error * eigenvalues[kept]
        total = float((explained / eigenvalues[kept] ** 2).sum())
        bound = min(total + 4.0 * self.d * EPSILON * variance, variance)
        # What the other directions could explain is not known: the truth may be anywhere below the value.
        return bound if kept.all() else max(bound, value)

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
        size += float(self.bias @ self.bias + statistics.target_mean @ statistics.target_mean)
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
        c = math.nan if self.penalties is None else float(self.penalties.c)
        if math.isnan(c):
            c = gamma
            if self.penalties is not None:
                self.notes.append("the penalties leave c open (no feature_decay): the UFM is shown at c = gamma")
        if math.isnan(c) or not float(np.trace(sigma)) > 0.0:
            return None
        return predicted_spectrum(sigma, c)


def _needs_unit_rows(convention: Convention) -> bool:
    return convention.unit_rows and not convention.centered_rows
