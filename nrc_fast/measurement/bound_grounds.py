"""What the bounds of a report rest on, number by number, by the way that each was found."""

from __future__ import annotations

from collections.abc import Iterable

from nrc_fast.measurement.convention_metrics import ConventionMetrics
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.measurement.model_errors import ModelErrors
from nrc_fast.metrics.grounds import (
    ALONG_ROWS,
    DECOMPOSITION,
    FIRST_ORDER,
    FLOAT64_SUMS,
    Grounds,
    grounds_of_components,
)

__all__ = ["OF_TARGETS", "grounds_of_report"]

# The covariance of the targets where it is summed in float64, as on devices and of many, whatever the features are.
OF_TARGETS = FLOAT64_SUMS
DRAWN: Grounds = frozenset({"drawn heads"})
# Numbers that W and the covariance of the targets give.
OF_HEAD = ("nrc3", "gamma", "nrc3_at_zero", "gamma_share", "head_outside")


def grounds_of_report(
    evidence: Evidence,
    found: ConventionMetrics,
    names: Iterable[str],
    *,
    errors: ModelErrors | None,
    rows_are_held: bool,
    readout_is_exact: bool,
    whole_spectrum: bool,
) -> dict[str, Grounds]:
    """What bounds rest on, by the names of a report's numbers, those of other conventions as ``nrc1 raw``.

    Parameters
    ----------
    evidence : Evidence
        After everything was asked.
    found : ConventionMetrics
    names : iterable of str
        Of all numbers with a bound.
    errors : ModelErrors or None
        Of the model, after they were asked for.
    rows_are_held : bool
        Whether what can be exact comes from rows and targets that are held.
    readout_is_exact : bool
        Whether the best readout is of such rows too.
    whole_spectrum : bool
        Whether all eigenvalues were found, not the leading ones alone.
    """
    moments = evidence.grounds_of_moments
    spectrum = moments | grounds_of_components(is_whole=whole_spectrum)
    if whole_spectrum and evidence.exact_components(centered=True) is not None:
        spectrum = FIRST_ORDER
    is_exact = rows_are_held or evidence.moments.long_targets is not None
    of_targets: Grounds = frozenset() if is_exact else OF_TARGETS
    of_errors = moments | ALONG_ROWS
    of_balance = of_errors | OF_TARGETS
    if errors is not None and errors.exact is not None:
        of_errors = of_balance = frozenset()
    elif errors is not None and errors.sums is not None:
        of_errors = ALONG_ROWS | (moments if errors.mse_is_of_moments else frozenset())
        of_balance = ALONG_ROWS | OF_TARGETS | (frozenset() if errors.sums.balance is not None else moments)
    own = {
        **dict.fromkeys(("explained_variance_ratio", "effective_rank", "stable_rank"), spectrum),
        "linear_mse": frozenset() if readout_is_exact else moments | DECOMPOSITION | OF_TARGETS,
        "cka": frozenset() if rows_are_held else moments | OF_TARGETS,
        "cka_debiased": frozenset() if rows_are_held else moments | OF_TARGETS | ALONG_ROWS,
        **dict.fromkeys(OF_HEAD, of_targets),
        "nrc3_quantile": of_targets | DRAWN,
        "nrc3_untrained": of_targets | DECOMPOSITION | DRAWN,
        "mse": of_errors,
        "r2": of_errors | of_targets,
        **dict.fromkeys(("balance_distance", "balance_decay", "balance_asymmetry"), of_balance),
    }
    known = [f"{metric} {name}" for name, values in found.alternatives.items() for metric in values]
    return {name: found.grounds[name] if name in found.grounds else own[name] for name in (*names, *known)}
