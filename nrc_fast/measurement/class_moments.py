"""What sums of features with class labels say: means, covariance within classes, and NC1 to NC3 with their bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, from_lower, scale_to_unit
from nrc_fast.kernels.cpu.machine import block_rows
from nrc_fast.measurement.undefined import notes_of_classes
from nrc_fast.metrics.classes import (
    SMALLEST,
    bias_offset_bound,
    cdnv,
    cdnv_bound,
    duality,
    duality_bounds,
    simplex,
    simplex_bounds,
    variability,
    variability_bounds,
)
from nrc_fast.metrics.grounds import DECOMPOSITION, FLOAT64_SUMS, Grounds, grounds_of_sums
from nrc_fast.metrics.rounding import block_rounding
from nrc_fast.reports.bound_kinds import sorted_grounds
from nrc_fast.reports.classes import ClassReport

__all__ = ["ADDITIVE", "CHUNK_ROWS", "ClassMoments", "reads_of", "shifted_to"]

# Rows whose differences from their class shift are held at a time.
CHUNK_ROWS = 4096

# What is added up over parts.
ADDITIVE = ("counts", "sums", "energies", "rounded", "gram", "reads")
# What is read: rows whose products were float32 on the CPU, or of a CUDA device's precision, and the chunks of all.
READS = ("single", "device", "fast", "chunks")
# Numbers of the covariance within classes: the others are of class means and variances, which are float64 sums.
OF_SPREAD = ("nc1", "nc1_sum", "nc1_ratio", "nc1_share", "nc1_total")


class ClassMoments:
    """Sums of features around a shift of each class as they were at one moment: nothing changes them.

    Parameters
    ----------
    d, n_classes : int
    state : mapping to float64 arrays, optional
        The shifts, and what `ADDITIVE` names; of no rows if it is not given.
    skipped : int
        Rows that were left out.
    """

    def __init__(self, d: int, n_classes: int, state: dict[str, FloatArray] | None = None, skipped: int = 0) -> None:
        self.d, self.n_classes, self.skipped = d, n_classes, skipped
        self.state: dict[str, FloatArray] = state or {
            "shifts": np.zeros((n_classes, d)),
            "counts": np.zeros(n_classes),
            "sums": np.zeros((n_classes, d)),
            "energies": np.zeros(n_classes),
            # What roundings are relative to: the energies as they were read, and what moved them to other shifts.
            "rounded": np.zeros(n_classes),
            "gram": np.zeros((d, d)),
            "reads": np.zeros(len(READS)),
        }

    @property
    def count(self) -> int:
        """Rows that were added."""
        return int(self.state["counts"].sum())

    # ---- moments ----

    @property
    def class_means(self) -> FloatArray:
        """mu_k, (K, d).

        Raises
        ------
        ValueError
            A class has no rows.
        """
        return self.state["shifts"] + self._offsets()

    def _offsets(self) -> FloatArray:
        counts = self.state["counts"]
        if not counts.all():
            missing = ", ".join(map(str, np.flatnonzero(counts == 0.0)[:10]))
            msg = f"no rows of class {missing} were added; every one of the {self.n_classes} classes needs some"
            raise ValueError(msg)
        offsets: FloatArray = self.state["sums"] / counts[:, np.newaxis]
        return offsets

    @property
    def mean(self) -> FloatArray:
        """Mean of all rows, (d,)."""
        mean: FloatArray = self.state["counts"] @ self.class_means / self.count
        return mean

    @property
    def centered_means(self) -> FloatArray:
        """M: mu_k minus the mean of all rows, (K, d), taken from differences so that a large mean costs no digits."""
        differences = self.state["shifts"] - self.state["shifts"][0] + self._offsets()
        centred: FloatArray = differences - self.state["counts"] @ differences / self.count
        return centred

    @property
    def within_covariance(self) -> FloatArray:
        """S_W = (1/N) sum (h - mu_k)(h - mu_k)^T, (d, d)."""
        offsets, shares = self._offsets(), self.state["counts"] / self.count
        gram = from_lower(self.state["gram"])
        covariance: FloatArray = gram / self.count - (offsets.T * shares) @ offsets
        return covariance

    @property
    def class_variances(self) -> FloatArray:
        """v_k = (1/n_k) sum |h - mu_k|^2, (K,)."""
        offsets = self._offsets()
        variances: FloatArray = self.state["energies"] / self.state["counts"] - np.sum(offsets**2, axis=1)
        return np.maximum(variances, 0.0)

    # ---- accuracy ----

    def _rounding(self, *kinds: str) -> float:
        """Bound of the rounding of a sum of squares relative to it, as in `nrc_fast.passes.moments`."""
        read = dict(zip(READS, self.state["reads"].tolist(), strict=True))
        largest = max(block_rounding(kind, block_rows()) for kind in kinds if kind == "double" or read[kind])
        return largest + EPSILON / 2 * (CHUNK_ROWS / block_rows() + float(read["chunks"]))

    @property
    def within_error(self) -> float:
        """Bound of the norm of the error of `within_covariance`: of the sum, and of the offsets of the means in it."""
        rounding, counts = self._rounding("double", "single", "device", "fast"), self.state["counts"]
        energy, moved = float(self.state["rounded"].sum()), float(counts @ np.sum(self._offsets() ** 2, axis=1))
        of_sums = rounding * (energy + 2.0 * math.sqrt(energy) * math.sqrt(moved)) / self.count
        return float(of_sums + 8.0 * self.d * SMALLEST)

    @property
    def mean_error(self) -> float:
        """Bound of the norm of the error of every row of `centered_means`."""
        differences = self.state["shifts"] - self.state["shifts"][0] + self._offsets()
        spread = float(np.sqrt(np.max(self.state["rounded"] / self.state["counts"])))
        scaled, exponent = scale_to_unit(differences)
        largest = math.ldexp(float(np.max(np.linalg.norm(scaled, axis=1))), exponent)
        return 2.0 * self._rounding("double") * spread + 8.0 * EPSILON * largest + 2.0 * self.d * SMALLEST

    # ---- metrics ----

    def report(self, head: tuple[FloatArray, FloatArray] | None) -> ClassReport:
        """NC1, NC2, and with the weights and bias of a head NC3.

        Raises
        ------
        ValueError
            A class has no rows.
        """
        counts, (centred, error, exponent) = self.state["counts"], self._scaled_means()
        within, variances = (np.ldexp(part, -2 * exponent) for part in (self.within_covariance, self.class_variances))
        within_error = math.ldexp(self.within_error, -2 * exponent)
        values: dict[str, Any] = variability(within, centred, counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            unbiased = variances * counts / (counts - 1.0)
        values["cdnv"], values["cdnv_unbiased"] = cdnv(centred, variances), cdnv(centred, unbiased)
        values |= simplex(centred)
        bounds = variability_bounds(values, within, centred, counts, (within_error, error))
        bounds |= self._cdnv_bounds(centred, variances, error, exponent) | simplex_bounds(values, centred, error)
        if head is not None:
            mean, mean_error = self.mean, math.ldexp(error, exponent)
            values |= duality(*head, centred, mean)
            bounds |= duality_bounds(values, head[0], centred, error)
            bounds["bias_offset"] = bias_offset_bound(*head, mean, mean_error)
        notes = notes_of_classes(values, counts=counts, centred=centred, weights=None if head is None else head[0])
        sizes = {"samples": self.count, "d": self.d, "n_classes": self.n_classes, "skipped_rows": self.skipped}
        grounds = sorted_grounds(self._grounds(bounds))
        return ClassReport(**sizes, **values, bounds=bounds, notes=tuple(notes), bound_grounds=grounds)

    def _grounds(self, bounds: Iterable[str]) -> dict[str, Grounds]:
        """What bounds rest on: those of the spread within classes on the products of the features too."""
        read = dict(zip(READS, self.state["reads"].tolist(), strict=True))
        products = grounds_of_sums(["double", *(kind for kind in READS[:-1] if read[kind])])
        sums = FLOAT64_SUMS | {"first order"}
        return {name: sums | (products | DECOMPOSITION if name in OF_SPREAD else frozenset()) for name in bounds}

    def _scaled_means(self) -> tuple[FloatArray, float, int]:
        """The centred means over a power of two, the error of each, and the power: all numbers but one have no scale.

        Beside it neither the means nor what is within the classes has squares that leave the range of float64.
        """
        centred, error = self.centered_means, self.mean_error
        spread = math.sqrt(float(np.max(self.class_variances)))
        exponent = math.frexp(max(float(np.abs(centred).max()), spread))[1]
        return np.ldexp(centred, -exponent), math.ldexp(error, -exponent), exponent

    def _cdnv_bounds(
        self, centred: FloatArray, variances: FloatArray, mean_error: float, exponent: int
    ) -> dict[str, float]:
        """Variances are sums of float64 squares around a shift near the mean."""
        counts = self.state["counts"]
        errors = 3.0 * self._rounding("double") * self.state["rounded"] / counts + 8.0 * self.d * SMALLEST
        errors = np.ldexp(errors, -2 * exponent)
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = counts / (counts - 1.0)
            unbiased = variances * factors, errors * factors
        return {
            "cdnv": cdnv_bound(centred, variances, errors, mean_error),
            "cdnv_unbiased": cdnv_bound(centred, *unbiased, mean_error),
        }


def shifted_to(state: dict[str, FloatArray], shifts: FloatArray) -> dict[str, FloatArray]:
    """The state as if other shifts had been subtracted; classes without rows take them over.

    Energies may cancel: those around the mean of rows of which the first lies far off are fewer than those around it.
    """
    counts, sums = state["counts"][:, np.newaxis], state["sums"]
    delta = np.where(counts > 0.0, state["shifts"] - shifts, 0.0)
    half = sums + 0.5 * counts * delta
    sizes, distances = np.linalg.norm(sums, axis=1), np.linalg.norm(delta, axis=1)
    moved = 2.0 * (sizes + 0.5 * state["counts"] * distances) * distances
    return {
        "shifts": shifts,
        "counts": state["counts"],
        "sums": sums + counts * delta,
        "energies": state["energies"] + 2.0 * np.sum(half * delta, axis=1),
        "rounded": state["rounded"] + moved,
        "gram": state["gram"] + np.tril(half.T @ delta + delta.T @ half),
        "reads": state["reads"],
    }


def reads_of(kind: str, rows: int) -> FloatArray:
    """A chunk of rows of one kind, as an array that adds up."""
    return np.array([rows if name == kind else float(name == "chunks") for name in READS], dtype=np.float64)
