"""What the papers say, and the sentence that the results put beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from reproduce.seeds import Setting, middle, number

__all__ = ["CLAIMS", "Claim"]

Need = tuple[str, "str | None", "float | None"]  # group, data and decay; None: all of them


@dataclass(frozen=True)
class Claim:
    """One row of the page's first table.

    Attributes
    ----------
    source, says : str
        Where in which paper, and what.
    needs : tuple of (group, data, decay)
        Settings that `see` is given, a list for each.
    see : callable
    why : str
        Why it is the same, or is not.
    """

    source: str
    says: str
    needs: tuple[Need, ...]
    see: Callable[..., str]
    why: str


def _end(settings: list[Setting], name: str) -> str:
    return middle(settings[0].final(name))


def _collapse(swimmer: list[Setting]) -> str:
    numbers = ", ".join(f"{title} {_end(swimmer, title.lower())}" for title in ("NRC1", "NRC2", "NRC3"))
    return f"Swimmer, decay {swimmer[0].run.weight_decay:g}: {numbers}"


def _components(swimmer: list[Setting], jumping: list[Setting]) -> str:
    def outside(end: dict[str, Any]) -> float:
        return float(sum(end["explained_variance_ratio"][2:]))

    there, here = middle(swimmer[0].derived(outside)), middle(jumping[0].derived(outside))
    return f"components 3 to 5 have {there} of the variance; where the torques jump, {here}"


def _gamma(swimmer: list[Setting], reacher: list[Setting], hopper: list[Setting]) -> str:
    parts = (("Swimmer", swimmer), ("Reacher", reacher), ("Hopper", hopper))
    return ", ".join(f"{title} {_end(found, 'gamma_share')}" for title, found in parts)


def _series(settings: list[Setting], name: str) -> str:
    return ", ".join(middle(setting.final(name)) for setting in settings)


def _weak(found: list[Setting]) -> str:
    decays = ", ".join(f"{setting.run.weight_decay:g}" for setting in found)
    numbers = "; ".join(f"{title} {_series(found, title.lower())}" for title in ("NRC1", "NRC2", "NRC3"))
    return f"decays {decays}: {numbers}; exponent of W W^T {_series(found, 'exponent')}"


def _test_error(swimmer: list[Setting], reacher: list[Setting], hopper: list[Setting]) -> str:
    parts = (("Swimmer", swimmer), ("Reacher", reacher), ("Hopper", hopper))
    return "; ".join(f"{title} {_series(found, 'test_mse')}" for title, found in parts)


def _ufm(found: list[Setting]) -> str:
    penalised = [setting for setting in found if setting.run.weight_decay > 0.0]
    lambdas = ", ".join(f"{setting.run.weight_decay:g}" for setting in penalised)
    return f"lambda {lambdas}: NRC3 at gamma = c is {_series(penalised, 'nrc3_at_c')}"


def _error_of_ufm(found: list[Setting]) -> str:
    def ratio(end: dict[str, Any]) -> float:
        return float(end["mse"] / end["predicted_mse"])

    penalised = [setting for setting in found if setting.run.weight_decay > 0.0]
    shown = ", ".join(f"{setting.run.weight_decay:g}: {middle(setting.derived(ratio))}" for setting in penalised)
    return f"training error over n c, by lambda {shown}"


def _norms(found: list[Setting]) -> str:
    def balance(end: dict[str, Any], setting: Setting) -> float:
        features = float(setting.run.feature_penalty or 0.0) * float(end["mean_squared_feature_norm"])
        return features / (setting.run.weight_decay * float(np.trace(end["head_gram"])))

    parts = [
        f"{setting.run.feature_penalty:g}: {middle([balance(one['final'], setting) for one in setting.found])}"
        for setting in found
    ]
    return f"lambda_H |H|^2/M over lambda_W |W|^2, by lambda_H {', '.join(parts)}"


def _white(swimmer: list[Setting], reacher: list[Setting]) -> str:
    def ratio(name: str, end: dict[str, Any]) -> float:
        values = np.linalg.eigvalsh(np.array(end[name]))
        return float(values[-1] / values[0])

    parts = []
    for title, found in (("Swimmer", swimmer), ("Reacher", reacher)):
        shown = ", ".join(middle(one.derived(partial(ratio, "residual_covariance"))) for one in found)
        targets = number(ratio("covariance", found[0].found[0]["final"]))
        parts.append(f"{title} {shown} (targets: {targets})")
    lambdas = ", ".join(f"{setting.run.feature_penalty:g}" for setting in swimmer)
    return f"ratio of the residuals' two variances, by lambda_H {lambdas}: {'; '.join(parts)}"


def _hopper(found: list[Setting]) -> str:
    return "; ".join(
        f"decay {setting.run.weight_decay:g}: NRC1 {middle(setting.final('nrc1'))}, NRC3 "
        f"{middle(setting.final('nrc3'))}; {middle(setting.final('head_outside'))} of W W^T outside Sigma's basis"
        for setting in found
    )


def _protocol(swimmer: list[Setting]) -> str:
    def first(setting: Setting, name: str) -> str:
        return middle([float(one["curves"][name][0]) for one in setting.found])

    strong, weak = swimmer[0], swimmer[-1]
    return (
        f"at the start NRC3 is {first(strong, 'nrc3')} with gamma = last and {first(strong, 'nrc3_each')} with gamma = "
        f"each (decay {strong.run.weight_decay:g}), {first(weak, 'nrc3')} and {first(weak, 'nrc3_each')} "
        f"(decay {weak.run.weight_decay:g})"
    )


def _balance(swimmer: list[Setting], reacher: list[Setting], hopper: list[Setting]) -> str:
    found = [one for one in (*swimmer, *reacher, *hopper) if one.run.weight_decay > 0.0]
    off = [abs(value / one.run.weight_decay - 1.0) for one in found for value in one.final("balance_decay")]
    distances = [value for one in found for value in one.final("balance_distance")]
    return (
        f"distance from balance {number(min(distances))} to {number(max(distances))}; the decay that it implies is off "
        f"by {100 * max(off):.1f}% at most, in {len(off)} runs"
    )


def _exponents(linear: list[Setting], curved: list[Setting]) -> str:
    def shown(found: list[Setting], activation: str) -> str:
        return ", ".join(middle(one.final("exponent")) for one in found if one.run.activation == activation)

    return (
        f"2, 3, 4 layers: linear {shown(linear, 'linear')}; ReLU on the same targets {shown(linear, 'relu')}; "
        f"ReLU on curved targets {shown(curved, 'relu')}"
    )


def _layers(found: list[Setting]) -> str:
    def at(setting: Setting, name: str, layer: int) -> str:
        return middle([float(one["final"]["layers"]["n = 2"][layer][name]) for one in setting.found])

    return "; ".join(
        f"decay {setting.run.weight_decay:g}: noise {at(setting, 'noise_fraction', 1)} at layer 1 and "
        f"{at(setting, 'noise_fraction', -1)} at the last, weights aligned to {at(setting, 'weight_alignment', -2)} "
        "before it"
        for setting in found
    )


def _vision(found: list[Setting]) -> str:
    def outside(setting: Setting) -> list[float]:
        return [float(setting.curve("nrc1_variance", seed)[1][-1]) for seed in range(len(setting.found))]

    def failed(setting: Setting) -> str:
        count = sum(value < LEARNED for value in setting.final("r2"))
        return f" ({count} of {len(setting.found)} runs learned nothing)" if count else ""

    return "; ".join(
        f"decay {setting.run.weight_decay:g}: NRC1 {middle(setting.final('nrc1'))}, about the mean "
        f"{middle(outside(setting))}, NRC2 {middle(setting.final('nrc2'))}, NRC3 {middle(setting.final('nrc3'))}"
        f"{failed(setting)}"
        for setting in found
    )


# A training with a smaller R2 has learned nothing.
LEARNED = 0.01
SWIMMER: Need = ("decay", "swimmer", None)
REACHER: Need = ("decay", "reacher_standardised", None)
HOPPER: Need = ("decay", "hopper", None)
CLAIMS = (
    Claim(
        "NRC24, figure 2",
        "NRC1, NRC2 and NRC3 fall under weight decay; Swimmer's axis goes down to 1e-8",
        (SWIMMER,),
        _collapse,
        "The same, at our strongest decay. The paper's is 0.02 in this scaling, at which ours does not collapse, "
        "though the head is in balance. Our targets are others; more we do not know.",
    ),
    Claim(
        "NRC24, figure 3",
        "the first n components soon carry all variance of the features",
        (SWIMMER, ("decay", "swimmer_jumping", None)),
        _components,
        "The same where most torques lie inside (-1, 1). Where they jump, more directions stay at the same decay. That "
        "steep functions need them is a guess.",
    ),
    Claim(
        "NRC24, figure 4",
        "NRC3 has one minimum between 0 and lambda_min: Swimmer at 0.691, Reacher 0.749, Hopper 0.011 of it",
        (SWIMMER, REACHER, HOPPER),
        _gamma,
        "One minimum each, at the strongest decay. Where it lies depends on the decay beside Sigma, and both are "
        "others here. Near 1 a direction is about to drop out of W.",
    ),
    Claim(
        "NRC24, figures 5, 7, 8, Swimmer",
        "with less decay there is less collapse",
        (SWIMMER,),
        _weak,
        "The same, from strong to weak decay. W W^T comes near Sigma^(1/4), the shape of [four layers](depth.md) that "
        "share the decay, so that NRC3, which expects 1/2, does not go to 0 with it.",
    ),
    Claim(
        "NRC24, figures 5, 7, 8, Reacher",
        "with less decay there is less collapse",
        (REACHER,),
        _weak,
        "The same. Weak decays leave NRC3 where random heads are. With the strongest the features collapse only as the "
        "learning rate falls.",
    ),
    Claim(
        "NRC24, figure 5",
        "without decay the test error of the small data sets rises",
        (SWIMMER, REACHER, HOPPER),
        _test_error,
        "Not seen: the less decay, the smaller the test error. Our experts act without noise, so that what decay takes "
        "away is signal; that this is the reason was not tested.",
    ),
    Claim(
        "NRC24, figures 6, 9",
        "with penalties on features and head NRC3 at gamma = c is near 0, and larger for small ones",
        (("ufm", "swimmer", None),),
        _ufm,
        "The same. The smallest penalty acts within 1/lambda = 10,000 steps at our learning rate, and had 8,000.",
    ),
    Claim(
        "NRC24, corollary 4.2 (iv)",
        "the training error at the minimum is n c",
        (("ufm", "swimmer", None),),
        _error_of_ufm,
        "Equal where n c is well above what the network has not fitted yet; below, that is what is left. In the "
        "paper's figures 6 and 9 errors are far above n c as well.",
    ),
    Claim(
        "NRC24, figure 10, corollary 4.2 (iii)",
        "lambda_H |H|^2 = M lambda_W |W|^2: features shrink and W grows with lambda_H",
        (("norms", "swimmer", None),),
        _norms,
        "The same: the ratio is 1 at the minimum, where Swimmer's trainings are but for the smallest penalty, whose "
        "head is not yet in balance.",
    ),
    Claim(
        "NRC24, figure 11, corollary 4.2 (v)",
        "the residuals are white, whatever the targets' covariance",
        (("norms", "swimmer", None), ("norms", "reacher", None)),
        _white,
        "1 is white, and the residuals are where the error is n c. Where it is the misfit of the network, as for "
        "Reacher, whose raw targets were not learned in 4,000 steps, the model says nothing of it.",
    ),
    Claim(
        "NRC24, figure 2, Hopper",
        "NRC3 stays above 0, in 0.10 to 0.18 by the figure's axis",
        (HOPPER,),
        _hopper,
        "It stays above 0 here too: one gamma has five shape numbers to fit where n = 3. Expert and samples differ.",
    ),
    Claim(
        "NRC24, appendix A.3",
        "NRC3 of all steps is told for the gamma of the last one",
        (SWIMMER,),
        _protocol,
        "Where gamma ends inside its interval, the start of a curve is large by hindsight; records tell both.",
    ),
    Claim(
        "this project, [balance](head_balance.md)",
        "at rest W W^T has the shape of the moment of residuals and outputs, and their ratio is the decay",
        (SWIMMER, REACHER, HOPPER),
        _balance,
        "It holds whether the features have collapsed or not. Furthest off are trainings that are not at rest, of weak "
        "decay.",
    ),
    Claim(
        "this project, [depth](depth.md)",
        "W W^T goes like Sigma^(1/L) under weak decay, L layers",
        (("depth", "linear_directions", None), ("depth", "curved_directions", None)),
        _exponents,
        "Exact for linear layers on white inputs, near for ReLU on targets that are linear. On curved ones small "
        "directions are fitted less, and the exponent is larger.",
    ),
    Claim(
        "DNRC26, low-rank targets",
        "features of the last layers have the rank of the targets; weights align with them under decay",
        (("layers", None, None),),
        _layers,
        "The same: the noise falls from layer to layer to two components of ten targets with and without decay, and "
        "the weights below the head align with the features under the strongest decay alone.",
    ),
    Claim(
        "NRC24, figure 2, images",
        "networks with convolutions collapse as well; NRC3 of Carla 2D is below 0.06 by the figure's axis",
        (("vision", None, None),),
        _vision,
        "In part. With strong decay NRC3 is far below that of random heads, with weak decay and none above it; under "
        "the strongest all but a few percent of the variance lie in three components. NRC1 and NRC2, which count the "
        "mean of ReLU features, stay up.",
    ),
)
