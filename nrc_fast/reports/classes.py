"""NC1 to NC4 of class means and covariances, each published variant under a name of its own, and their report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nrc_fast.base.linalg import EPSILON, FloatArray, scale_to_unit
from nrc_fast.reports.features import NAN, format_value, without_nan

__all__ = ["VARIANTS", "ClassReport", "cdnv", "duality", "simplex", "variability"]

# S_W: covariance within the classes (1/N). S_B = (1/K) sum (mu_k - mu)(mu_k - mu)^T. S_T: covariance of all rows.
# M: the centred class means as rows. E = (I - 11^T/K)/sqrt(K - 1): the simplex that collapse leads to.
VARIANTS = {
    "nc1": "tr(S_W S_B^+)/K: Papyan, Han, Donoho 2020; nc-toolbox, rhubarbwu/neural-collapse",
    "nc1_sum": "tr(S_W S_B^+), not divided by K: glbreeze/neural_collapse",
    "nc1_ratio": "tr S_W / tr S_B: Tirer, Huang, Niles-Weed 2023; quotient of rhubarbwu/neural-collapse",
    "nc1_share": "tr S_W / (tr S_W + tr S_B): Rangamani et al. 2023",
    "nc1_total": "tr(S_W S_T^+)/N: within-class measure of kowalski's code",
    "cdnv": "mean over pairs of (v_k + v_l)/(2 |mu_k - mu_l|^2), v_k the mean squared distance: Galanti et al. 2022",
    "cdnv_unbiased": "the same with v_k divided by n_k - 1: nc-toolbox",
    "nc2_equinorm": "std/mean of |mu_k - mu|: Papyan, Han, Donoho 2020",
    "nc2_equiangular": "mean over pairs of |cos + 1/(K - 1)|: Papyan, Han, Donoho 2020",
    "nc2_log_norms": "mean over pairs k < l of log |mu_k - mu| - log |mu_l - mu|, whose signs cancel: nc-toolbox",
    "nc2_cosines": "mean over pairs of cos + 1/(K - 1), whose signs cancel: nc-toolbox",
    "nc2_etf": "|M M^T/|M M^T| - E|: Zhu et al. 2021; etf of rhubarbwu/neural-collapse, nc2h of glbreeze",
    "nc2_etf_weights": "|W W^T/|W W^T| - E|: nc2w of glbreeze, W-etf of kowalski",
    "nc3": "|W/|W| - M/|M||: Papyan, Han, Donoho 2020; nc-toolbox",
    "nc3_squared": "its square: nc3 of glbreeze",
    "nc3_etf": "|W M^T/|W M^T| - E|: Zhu et al. 2021; dual of rhubarbwu, self_duality of kowalski, nc2 of glbreeze",
    "bias_offset": "|W mu + b|: kowalski, after Zhu et al. 2021",
    "nc4": "share of rows where argmax(W h + b) is not the class of the nearest mean",
    "accuracy": "share of rows where argmax(W h + b) is the label",
}


@dataclass(frozen=True, eq=False)
class ClassReport:
    """NC1 to NC4, each variant under its own name; all of them but the accuracy are 0 when collapsed.

    The attributes are described in `VARIANTS`. What needs weights, or rows that are read again (``nc4`` and
    ``accuracy``), is NaN without them. ``bounds`` maps names to absolute bounds, of first order in the errors of the
    moments and infinite where these are too large for that; ``nc4`` and ``accuracy`` are counts and have none.
    """

    samples: int
    d: int
    n_classes: int
    nc1: float
    nc1_sum: float
    nc1_ratio: float
    nc1_share: float
    nc1_total: float
    cdnv: float
    cdnv_unbiased: float
    nc2_equinorm: float
    nc2_equiangular: float
    nc2_log_norms: float
    nc2_cosines: float
    nc2_etf: float
    nc2_etf_weights: float = math.nan
    nc3: float = math.nan
    nc3_squared: float = math.nan
    nc3_etf: float = math.nan
    bias_offset: float = math.nan
    nc4: float = math.nan
    accuracy: float = math.nan
    bounds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassReport:
        """A report from what `to_dict` gave or `to_json` wrote; null becomes NaN.

        Raises
        ------
        ValueError
            The mapping holds something else.
        """
        names = set(cls.__dataclass_fields__) - {"bounds"}
        if not names <= set(values):
            msg = f"the mapping holds no report of classes: {', '.join(sorted(names - set(values)))} are missing"
            raise ValueError(msg)
        bounds = {name: math.inf if value is None else value for name, value in values.get("bounds", {}).items()}
        restored: dict[str, Any] = {name: NAN if values[name] is None else values[name] for name in names}
        return cls(**restored, bounds=bounds)

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name; NaN stays NaN."""
        return asdict(self)

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON text (NaN and infinite bounds become null), also written to `path` if one is given."""
        text = json.dumps(without_nan(self.to_dict()), indent=2)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def __str__(self) -> str:
        lines = [f"{self.samples:,} samples of {self.n_classes} classes, d = {self.d}", ""]
        lines += [
            f"  {name:<16}{format_value(getattr(self, name), self.bounds.get(name)):<24}{about}"
            for name, about in VARIANTS.items()
            if not math.isnan(getattr(self, name))
        ]
        return "\n".join(lines)


def variability(within: FloatArray, centred: FloatArray, counts: FloatArray) -> dict[str, float]:
    """NC1 in its variants."""
    classes, total = len(centred), float(counts.sum())
    spread, between = float(np.trace(within)), float(np.sum(centred**2)) / classes
    _, scales, directions = np.linalg.svd(centred, full_matrices=False)
    kept = scales > scales[0] * max(centred.shape) * EPSILON
    kept[classes - 1 :] = False  # the weighted sum of the rows is 0, up to a rounding that must not be divided by
    along = np.einsum("ij,jk,ik->i", directions[kept], within, directions[kept])
    papyan = float(np.sum(np.maximum(along, 0.0) / scales[kept] ** 2)) * classes if kept.any() else math.nan
    whole = within + (centred.T * (counts / total)) @ centred
    return {
        "nc1": papyan / classes,
        "nc1_sum": papyan,
        "nc1_ratio": spread / between if between > 0.0 else math.nan,
        "nc1_share": spread / (spread + between) if spread + between > 0.0 else math.nan,
        "nc1_total": float(np.trace(within @ np.linalg.pinv(whole, hermitian=True))) / total,
    }


def cdnv(means: FloatArray, variances: FloatArray) -> float:
    """Class-distance normalised variance."""
    total, classes = 0.0, len(means)
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in range(classes - 1):
            distances = np.sum((means[k + 1 :] - means[k]) ** 2, axis=1)
            total += float(np.sum((variances[k] + variances[k + 1 :]) / (2.0 * distances)))
    return total / (classes * (classes - 1) / 2)


def _etf_distance(gram: FloatArray) -> float:
    """Distance of a K x K matrix over its norm from the simplex."""
    classes = len(gram)
    norm = float(np.linalg.norm(gram))
    simplex = (np.eye(classes) - 1.0 / classes) / math.sqrt(classes - 1)
    return float(np.linalg.norm(gram / norm - simplex)) if norm > 0.0 else math.nan


def simplex(centred: FloatArray) -> dict[str, float]:
    """NC2 of the class means."""
    norms = np.linalg.norm(centred, axis=1)
    pairs = np.triu_indices(len(centred), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = centred / norms[:, np.newaxis]
        excess = (unit @ unit.T)[pairs] + 1.0 / (len(centred) - 1)
        logs = np.log(norms)
        return {
            "nc2_equinorm": float(norms.std() / norms.mean()) if norms.any() else math.nan,
            "nc2_equiangular": float(np.mean(np.abs(excess))),
            "nc2_log_norms": float(np.mean(logs[pairs[0]] - logs[pairs[1]])),
            "nc2_cosines": float(np.mean(excess)),
            "nc2_etf": _etf_distance(centred @ centred.T),
        }


def duality(weights: FloatArray, bias: FloatArray, centred: FloatArray, mean: FloatArray) -> dict[str, float]:
    """NC2 of the weights, NC3 and the bias."""
    scaled, _ = scale_to_unit(weights)
    norms = float(np.linalg.norm(scaled)), float(np.linalg.norm(centred))
    distance = float(np.linalg.norm(scaled / norms[0] - centred / norms[1])) if min(norms) > 0.0 else math.nan
    return {
        "nc2_etf_weights": _etf_distance(scaled @ scaled.T),
        "nc3": distance,
        "nc3_squared": distance**2,
        "nc3_etf": _etf_distance(scaled @ centred.T),
        "bias_offset": float(np.linalg.norm(weights @ mean + bias)),
    }
