"""What verdicts say, rule by rule and for features whose state is known by construction."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.reports import ClassReport, DeepReport, History, LayerCollapse, Record, Report
from nrc_fast.reports.affine import affine_note
from nrc_fast.reports.records import format_digits
from nrc_fast.reports.report_rows import BALANCE
from nrc_fast.reports.steps import shown_bound
from nrc_fast.reports.verdicts.balances import BalanceKnown, sentence_on_balance
from nrc_fast.reports.verdicts.classes import classes_verdict
from nrc_fast.reports.verdicts.features import FeatureNumbers, features_verdict
from nrc_fast.reports.verdicts.histories import direction, history_verdict
from nrc_fast.reports.verdicts.levels import Known
from nrc_fast.testing import reference_nrc3

D, N = 24, 3


def trained(
    noise: float = 0.0, offset: float = 0.0, *, W: Any = None, seed: int = 0, samples: int = 600
) -> dict[str, Any]:
    """Features of a plane that W spans, with noise of that size beside it and a mean of that size outside it."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.standard_normal((D, D)))[0].T
    head = 2.0 * np.diag([2.0, 1.5, 1.0]) @ frame[:N]
    Y = rng.standard_normal((samples, N)) * np.array([2.0, 1.0, 0.5])
    H = (Y - Y.mean(axis=0)) @ np.linalg.pinv(head).T
    H = H + noise * rng.standard_normal((samples, D)) + offset * frame[N]
    return {"H": H, "Y": Y, "W": head if W is None else W, "b": Y.mean(axis=0)}


# ---- features ----


def test_collapse_to_the_span_of_the_weights() -> None:
    given = trained()
    report = nrc.measure(**given)
    first, second, third = report.verdict
    assert re.match(r"Collapsed: the features lie in the span of W \(NRC1 .*e-3\d, NRC2 no larger than .*e-\d", first)
    draws = np.random.default_rng(8).standard_normal((100, N, D))
    untrained = report.nrc3_untrained
    assert untrained == pytest.approx(np.median([reference_nrc3(draw, given["Y"]) for draw in draws]), rel=0.15)
    assert second.endswith(f": NRC3 is {report.nrc3:.2g}, which at most 0.04% of random heads reach.")
    assert third.startswith("NRC3 is smallest at gamma = 0: ")


def test_collapse_to_other_directions_than_those_of_the_weights() -> None:
    W = np.random.default_rng(5).standard_normal((N, D))
    verdict = nrc.measure(**(trained() | {"W": W})).verdict
    assert re.match(r"Collapsed to 3 dimensions \(NRC1 .*e-3\d under nrc24\)", verdict[0])
    assert ", not the span of W (NRC2 0." in verdict[0]
    assert "Look at the fit first" in verdict[-1]  # as such a W does not fit
    without = nrc.measure(trained()["H"], W=W).verdict
    assert without[1] == "See whether W is the layer that is given these features."


def test_collapse_to_an_affine_plane() -> None:
    report = nrc.measure(**trained(noise=1e-3, offset=3.0))
    first, *_, last = report.verdict
    about_mean = report.alternatives["id25"]
    assert about_mean["nrc1"] < 1e-3
    assert report.nrc1 > 0.1
    assert report.alternatives["variance"]["nrc1"] < 1e-4
    assert first == (
        "Collapsed to an affine plane of 3 dimensions that does not hold the origin, rather than a subspace: it has "
        f">99.99% of the variance, and NRC1 is {about_mean['nrc1']:.2g} under id25, about the mean, and "
        f"{report.nrc1:.2g} under nrc24, about the origin; it is parallel to the span of W (NRC2 "
        f"{about_mean['nrc2']:.2g})."
    )
    assert last == "Quote NRC1 and NRC2 under id25 or variance too: an affine plane keeps them large under nrc24."
    assert nrc.measure(**trained(noise=0.02, offset=3.0)).verdict[0].startswith("Near an affine plane of 3 dimensions")
    energy = float(np.mean(np.sum(trained(noise=1e-3, offset=3.0)["H"] ** 2, axis=1)))
    assert report.energy == pytest.approx(energy, rel=1e-12)
    assert report.energy_outside == pytest.approx(report.alternatives["raw"]["nrc1"] / energy, rel=1e-12)


@pytest.mark.parametrize("convention", ["nrc24", "raw", "id25", "variance"])
def test_the_verdict_does_not_depend_on_the_convention_that_is_asked_for(convention: str) -> None:
    for given in (trained(), trained(noise=1e-3, offset=3.0), trained(noise=0.5)):
        expected = nrc.measure(**given).verdict
        assert nrc.measure(**given, convention=convention).verdict == expected


@pytest.mark.usefixtures("no_kept_rows")
def test_rows_that_are_read_once_know_an_affine_plane_too() -> None:
    given = trained(noise=1e-3, offset=3.0)
    W, b = given["W"], given["b"]
    report = nrc.FeatureStatistics(D, n_targets=N).update(given["H"], given["Y"]).report(W, b)
    assert "id25" not in report.alternatives
    assert report.verdict[0].startswith("Collapsed to an affine plane of 3 dimensions")
    assert "under variance, about the mean" in report.verdict[0]


def test_on_the_way_and_not_at_all() -> None:
    near = nrc.measure(**trained(noise=0.02))
    share = 100.0 * (1.0 - near.alternatives["variance"]["nrc1"])
    assert near.verdict[0] == (
        f"On the way, not collapsed: {share:.2f}% of the variance in the first 3 components, NRC1 {near.nrc1:.2g}, "
        f"NRC2 {near.nrc2:.2g} under nrc24."
    )
    assert near.verdict[-1] == "A Monitor tells whether it still falls as training goes on."
    H = np.random.default_rng(1).standard_normal((6000, D))
    noise = nrc.measure(H, n=N)
    inside = f"{100.0 * (1.0 - noise.alternatives['variance']['nrc1']):.2f}% of the variance in the first 3 components"
    assert noise.verdict[0] == (
        f"Not collapsed: {inside}, NRC1 {noise.nrc1:.2g} under nrc24, about what features without any preferred "
        "direction have (0.88)."
    )
    assert noise.verdict[1:] == ("Give W for NRC2, and W, b and the targets for NRC3 and the training error.",)


def test_features_with_a_structure_are_not_called_featureless() -> None:
    # Their mean is beside the plane of most of the variance: almost nothing of the rows is in it.
    verdict = nrc.measure(**trained(noise=0.1, offset=3.0)).verdict
    assert verdict[0].startswith("Not collapsed: ")
    assert verdict[0].endswith(" under nrc24.")


def test_what_nrc3_is_worth() -> None:
    given = trained()
    one = nrc.measure(given["H"], given["Y"][:, :1], given["W"][:1]).verdict
    assert "NRC3 is not defined for one target: W W^T is a number and has no shape." in one
    rng = np.random.default_rng(2)
    sign = np.repeat(np.eye(2), 2, axis=0) * np.array([1.0, -1.0, 1.0, -1.0])[:, None]
    isotropic = nrc.measure(rng.standard_normal((4, 256)), sign, np.eye(2, 256))
    nearly = sign * np.array([1.0, 0.99])
    turned = np.array([[1.0, -1.0], [1.0, 1.0]]) @ np.diag([3.0, 1.0]) @ np.eye(2, 256)  # gamma cannot make up for it
    other = nrc.measure(rng.standard_normal((4, 256)), nearly, turned)
    assert other.nrc3_untrained < 0.01
    assert other.verdict[1].startswith("W W^T does not have the shape that the UFM predicts: NRC3 is 0.")
    ratio = 1.0 - 0.5 ** (2 / 255)  # of W W^T of 2 x 256 Gaussian numbers, and half of them have a smaller one
    assert isotropic.nrc3_untrained == pytest.approx(2.0 - 2.0 / math.sqrt(1.0 + ratio), rel=0.05)
    # A W without any chance of its own is better than all random ones, however small NRC3 of these is.
    assert "which at most 0.04% of random heads reach" in isotropic.verdict[1]
    random = nrc.measure(rng.standard_normal((4, 256)), sign, np.array([[1.0, 0.1], [0.0, 1.0]]) @ np.eye(2, 256))
    # NRC3 is as large as its bound here, which leaves open how many random heads do as well.
    assert random.verdict[1] == (
        "Whether W W^T has the shape that the UFM predicts, the bound of NRC3 leaves open: it is no larger than "
        f"{2 * random.nrc3:.1e}."
    )
    constant = nrc.measure(given["H"], np.ones_like(given["Y"]), given["W"]).verdict
    assert "NRC3 is not defined here: W, or the covariance of the targets, has no shape." in constant
    assert not any("NRC3 is" in sentence for sentence in nrc.measure(given["H"], W=given["W"]).verdict)


def test_sizes_that_leave_nothing_to_be_found() -> None:
    rng = np.random.default_rng(3)
    H = rng.standard_normal((50, 3))
    assert nrc.measure(H, n=3).verdict == (
        "NRC1 says nothing here: with no more features (d = 3) than targets (n = 3) it is 0 whatever the features are.",
    )
    few = nrc.measure(rng.standard_normal((4, 9)), n=5)
    assert few.verdict[0].startswith("NRC1 says nothing here: with no more samples (4) than targets (n = 5)")
    flat = nrc.measure(np.zeros((20, 6)), n=2)
    assert flat.verdict == ("Nothing can be said of collapse: NRC1 is not defined for these features.",)


def numbers(**changes: Any) -> FeatureNumbers:
    return replace(FeatureNumbers(1000, 64, 2, {"nrc24": Known(0.5)}, has_weights=True), **changes)


@pytest.mark.parametrize(
    ("value", "bound", "start"),
    [
        (0.99e-3, 1e-6, "Collapsed to 2 dimensions through the origin"),
        (0.99e-3, 1e-4, "It cannot be told whether the features are collapsed: NRC1 under nrc24 is 0.00099"),
        (
            1e-6,
            1e-2,
            "It cannot be told whether the features are collapsed: NRC1 under nrc24 is no larger than 1.0e-02",
        ),
        (1.1e-3, 1e-6, "On the way, not collapsed: NRC1 0.0011"),
        (0.049, 1e-6, "On the way, not collapsed"),
        (0.049, 0.01, "Not collapsed: NRC1 0.049"),
        (0.051, 0.0, "Not collapsed: NRC1 0.051"),
        (math.nan, 0.0, "Nothing can be said of collapse"),
    ],
)
def test_bounds_count_where_a_level_is_near(value: float, bound: float, start: str) -> None:
    found = numbers(nrc1={"nrc24": Known(value, bound)}, has_weights=False)
    assert features_verdict(found)[0].startswith(start)


def test_the_rest_of_the_rules() -> None:
    within = numbers(nrc1={"nrc24": Known(0.3)}, nrc2={"nrc24": Known(1e-5)})
    assert features_verdict(within)[0].startswith("Collapsed to the span of W (NRC2 1e-05 under nrc24), and yet not")
    near = numbers(nrc1={"nrc24": Known(1e-5)}, nrc2={"nrc24": Known(0.01)})
    assert "near the span of W, not yet in it (NRC2 0.01)" in features_verdict(near)[0]
    unclear = numbers(nrc1={"nrc24": Known(1e-5)}, nrc2={"nrc24": Known(0.0, 0.1)})
    assert "the bound of NRC2 leaves open" in features_verdict(unclear)[0]
    other = numbers(
        nrc1={"nrc24": Known(0.5), "id25": Known(1e-5), "variance": Known(1e-5)},
        nrc2={"nrc24": Known(0.5), "id25": Known(0.4)},
        energy_outside=0.4,
    )
    assert "its directions are not those of W (NRC2 0.4)" in features_verdict(other)[0]
    # Rows near the mean keep id25 large, where most of the variance is in the plane.
    spread = replace(other, nrc1={"nrc24": Known(0.9), "id25": Known(0.4), "variance": Known(0.01)})
    assert features_verdict(spread)[0].startswith("Near an affine plane of 2 dimensions that does not hold the origin")
    loose = replace(other, nrc1={"nrc24": Known(0.9), "id25": Known(0.4), "variance": Known(0.06)})
    assert features_verdict(loose)[0].startswith("Not collapsed")
    unsure = numbers(has_targets=True, nrc3=Known(0.0, 0.5))
    assert "the bound of NRC3 leaves open" in features_verdict(unsure)[1]
    shaped = numbers(has_targets=True, nrc3=Known(1e-4), nrc3_untrained=0.2)
    assert features_verdict(shaped)[1].startswith("W W^T has the shape that the UFM predicts: NRC3 is 0.0001, and")


def test_the_affine_note_looks_at_nrc2_and_id25() -> None:
    report = nrc.measure(**trained(noise=1e-3, offset=3.0))
    (note,) = (note for note in report.notes if "affine" in note)
    mean = report.alternatives["id25"]
    assert note.endswith(f"Under id25, about the mean, NRC1 is {mean['nrc1']:.3g} and NRC2 {mean['nrc2']:.3g}.")
    nan = math.nan
    without = affine_note("nrc24", 2, origin=(0.5, nan), mean=(nan, nan), variance=1e-7)
    assert without.endswith(
        "Convention variance measures the collapse to such a plane; id25, too, for rows read again."
    )


# ---- text ----


def test_a_report_is_told_from_its_verdict_on() -> None:
    report = nrc.measure(**trained(noise=0.02))
    lines = str(report).splitlines()
    assert lines[1] == ""
    assert tuple(lines[2 : 2 + len(report.verdict)]) == report.verdict
    assert lines[2 + len(report.verdict)] == ""
    assert lines[3 + len(report.verdict)] == "collapse of the features"
    assert lines[4 + len(report.verdict)].startswith("  NRC1")
    readout = next(place for place, line in enumerate(lines) if line.startswith("  MSE of the best affine readout"))
    assert lines[readout + 1] == "features and targets"
    assert lines[readout + 2].startswith("  linear CKA")
    metrics = f"NRC1 {report.nrc1:.3g}, NRC2 {report.nrc2:.3g}, NRC3 {report.nrc3:.3g}"
    assert repr(report) == f"<Report of 600 samples, d = 24, n = 3, convention nrc24: {metrics}>"
    assert Report.from_dict(json.loads(report.to_json())).verdict == report.verdict


def test_a_prediction_is_shown_where_it_says_something() -> None:
    given = trained()
    at_zero = nrc.measure(**given)
    assert at_zero.gamma == 0.0
    assert at_zero.ufm is not None
    assert "UFM at" not in str(at_zero)
    penalties = SimpleNamespace(c=0.01)
    assert "  UFM at c = 0.01 predicts" in str(nrc.measure(**given, penalties=penalties))
    assert "UFM at" not in str(replace(at_zero, gamma=0.1, ufm=replace(at_zero.ufm, c=0.1), bounds={"gamma": 0.2}))
    assert "UFM at" in str(replace(at_zero, gamma=0.1, ufm=replace(at_zero.ufm, c=0.1), bounds={"gamma": 0.01}))


# ---- the balance of the head ----


def said_of(n: int, distance: Known, decay: Known, asymmetry: Known) -> str:
    return sentence_on_balance(BalanceKnown(n, distance, decay, asymmetry))


def test_what_a_balance_says_of_a_head() -> None:
    exact = Known(1e-6, 1e-12), Known(0.02, 1e-9), Known(1e-3, 1e-9)
    assert said_of(3, *exact) == (
        "In balance: a weight decay lambda_W of 0.02 holds the head as it is (distance 1e-06)."
    )
    off = (
        "Not at a stationary point of this loss with weight decay on these samples, or trained without any: the head "
        "is out of balance (distance 0.02, asymmetry 0.001)."
    )
    assert said_of(3, Known(0.02, 1e-9), *exact[1:]) == off
    assert said_of(3, Known(5e-3), exact[1], Known(0.12)).startswith("Not at a stationary point of this loss")
    near = "Near its balance, not in it (distance 0.001, asymmetry 0.001); the implied lambda_W is 0.02."
    assert said_of(3, Known(1e-3, 1e-9), *exact[1:]) == near
    left_open = said_of(3, Known(1e-6, 1e-3), *exact[1:])
    assert left_open.startswith("Whether the head is in balance its bound leaves open (distance no larger than 1.0e-03")
    assert said_of(3, exact[0], Known(-0.1, 1e-3), exact[2]) == (
        "Not at a stationary point of this loss with weight decay on these samples, or trained without any: the weight "
        "decay that would hold W is negative (-0.1)."
    )
    assert said_of(1, Known(0.0), exact[1], Known(0.0)).startswith("One output: the weight decay lambda_W that would")
    for distance, decay in ((exact[0], Known(math.nan)), (Known(math.nan), Known(0.0))):
        assert (
            said_of(3, distance, decay, exact[2])
            == "The balance of the head is not defined: W, or the balance itself, is 0."
        )


def test_a_report_says_of_the_balance_what_is_certain() -> None:
    report = nrc.measure(**trained(noise=0.5))
    stated = {"balance_distance": 1e-6, "balance_decay": 0.02, "balance_asymmetry": 1e-3}
    for bound, words in ((1e-9, "In balance: "), (1e-3, None)):
        told = replace(report, **stated, bounds=dict.fromkeys(stated, bound))
        assert any(sentence.startswith("In balance: ") for sentence in told.verdict) == (words is not None)
        assert told.verdict[-1] == report.verdict[-1]
    off = replace(report, balance_distance=0.5, balance_decay=0.02, balance_asymmetry=0.5, bounds={})
    assert off.verdict[-2].startswith(
        "Not at a stationary point of this loss with weight decay on these samples, or trained"
    )
    assert "  weight decay lambda_W that the balance implies      0.02\n" in str(off)
    unknown = nrc.measure(trained()["H"], trained()["Y"], trained()["W"])  # without b
    assert "of the balance" not in str(unknown)
    bias = "Give b too, zeros for a head without one, for the training error and the balance of the head."
    assert unknown.verdict[-1] == bias
    assert bias not in report.verdict
    stored = {name: value for name, value in report.to_dict().items() if name not in BALANCE}
    assert math.isnan(Report.from_dict(stored).balance_decay)
    assert Report.from_dict(report.to_dict()).balance_distance == report.balance_distance


# ---- histories ----


def record(step: int, nrc1: float, **changes: Any) -> Record:
    values = {"nrc2": nrc1, "nrc3": 0.1, "gamma": 0.0, "mse": 0.1, "r2": 0.95, "explained_variance": 0.9}
    values |= {"nrc1_id25": nrc1, "nrc1_variance": nrc1, "nrc2_id25": nrc1, "energy_outside": nrc1}
    return Record(**{"step": step, "nrc1": nrc1, "samples": 100, "d": 30, **values, **changes})


def said(values: list[float], **changes: Any) -> tuple[str, ...]:
    records = [record(10 * place, value, **changes) for place, value in enumerate(values)]
    return history_verdict(records, n=2, convention="nrc24")


def test_the_curve_of_a_training_has_a_level_and_a_direction() -> None:
    falling = said([0.8, 0.4, 0.2, 0.1, 0.05, 0.02])
    assert falling[0].startswith("At step 50: On the way, not collapsed: 98.00% of the variance")
    assert falling[1] == "NRC1 under nrc24 went from 0.8 to 0.02 and is still falling: train on."
    assert falling[2].startswith("W W^T does not have the shape")
    assert said([0.8, 0.1, 0.02, 0.02, 0.02])[1].endswith("stands still there.")
    assert said([0.8, 0.01, 0.02, 0.03, 0.06])[1].endswith("is rising again.")
    assert "nothing points to collapse so far" in said([0.6, 0.6, 0.61, 0.6])[1]
    assert said([0.5, 1e-3, 1e-5, 1e-8])[0].startswith("At step 30: Collapsed: the features lie in the span of W")
    assert said([0.5, 1e-3, 1e-5, 1e-8])[1].endswith("is falling.")
    assert len(said([0.5, 0.4])) == 2
    assert said([0.6, 0.5, 0.4], r2=0.2)[-1].startswith("Look at the fit first: R2 is 0.2")


def test_features_that_collapse_about_their_mean_alone_are_on_the_way() -> None:
    records = [record(k, 0.7, nrc1_id25=v, nrc1_variance=0.3) for k, v in enumerate([0.5, 0.4, 0.3, 0.2, 0.16])]
    curve = history_verdict(records, n=2, convention="nrc24")[1]
    assert curve.endswith("but about the mean (id25), from 0.5 to 0.16, it is falling: train on.")
    still = [record(k, 0.7, nrc1_id25=0.5, nrc1_variance=0.3) for k in range(5)]
    assert "nothing points to collapse so far" in history_verdict(still, n=2, convention="nrc24")[1]


def test_the_direction_is_that_of_the_last_quarters() -> None:
    noisy = [1.0] * 8 + [0.5, 0.9, 0.5, 0.5] + [0.3, 0.3, 0.9, 0.3]
    assert direction(noisy) == "falling"
    assert direction([*noisy, *12 * [0.3]]) == "still"


def test_an_affine_plane_is_followed_about_the_mean() -> None:
    values = [0.1, 0.01, 1e-3, 1e-4]
    records = [record(k, 0.9, nrc1_id25=v, nrc1_variance=v, nrc2_id25=v) for k, v in enumerate(values)]
    first, second, *_ = history_verdict(records, n=2, convention="nrc24")
    assert "Collapsed to an affine plane of 2 dimensions" in first
    assert second == "NRC1 under id25 went from 0.1 to 0.0001 and is falling."


def test_a_training_that_diverged_is_told_so() -> None:
    nan = math.nan
    lost = replace(record(30, nan), mse=nan, r2=nan)
    records = [record(0, 0.5), record(10, 0.4), record(20, 0.3), lost]
    first, second, *_ = history_verdict(records, n=2, convention="nrc24")
    assert first == "The error is NaN after step 20: the training has diverged; look at its learning rate."
    assert second.startswith("At step 20: Not collapsed")
    assert history_verdict([], n=0, convention="nrc24") == ("Nothing was measured yet.",)


def measured_history() -> History:
    history = History("run")
    for step, noise in enumerate((0.5, 0.1, 0.02)):
        given = trained(noise=noise, offset=3.0)
        covariance = np.cov(given["Y"], rowvar=False, bias=True)
        history.add(step, nrc.measure(**given), given["W"], covariance)
    return history


def test_records_hold_bounds_notes_and_nrc2_about_the_mean() -> None:
    history = measured_history()
    reports = [nrc.measure(**trained(noise=noise, offset=3.0)) for noise in (0.5, 0.1, 0.02)]
    for kept, report in zip(history.records("each"), reports, strict=True):
        assert kept.notes == report.notes
        assert kept.nrc2_id25 == report.alternatives["id25"]["nrc2"]
        assert kept.nrc2_variance == report.alternatives["variance"]["nrc2"]
        assert (kept.samples, kept.d, kept.energy_outside) == (600, D, report.energy_outside)
        for name in ("nrc1", "nrc2", "nrc3", "gamma", "mse", "r2"):
            assert kept.bounds[name] == report.bounds[name]
        assert kept.bounds["nrc2_id25"] == report.alternative_bounds["id25"]["nrc2"]
        assert kept.bounds["explained_variance"] == float(np.sum(report.bounds["explained_variance_ratio"][:N]))
        assert set(kept.scalars()).isdisjoint({"bounds", "notes", "samples", "d", "step"})
    back = History.from_dict(json.loads(history.to_json()))
    assert back.records("each") == history.records("each")
    assert back.verdict == history.verdict
    assert history.verdict[0].startswith("At step 2: Near an affine plane")
    lines = str(history).splitlines()
    assert lines[:2] == [repr(history), ""]
    assert tuple(lines[2 : 2 + len(history.verdict)]) == history.verdict
    assert [line.split()[0] for line in lines if line[:8].strip().isdigit()] == ["0", "1", "2"]
    assert repr(history.records()[0]).startswith("<Record of step 0: NRC1 ")
    # Numbers have the digits that their bounds allow, but NRC3, whose bound is for the gamma of the step itself.
    (head,) = [line for line in lines if line.startswith("    step")]
    fields = ("mse", "r2", "nrc1", "nrc1_id25", "nrc2", "nrc3", "balance_distance", "balance_decay")
    assert head.split("  ")[-1] == " lambda_W"
    middle = history.records()[1]
    wanted = [format_digits(getattr(middle, name), shown_bound(middle, name), 4) for name in fields]
    (line,) = [line for line in lines if line[:8].strip() == "1"]
    assert [line[8 + 11 * k : 19 + 11 * k].strip() for k in range(8)] == wanted
    assert len(line) == len(head) == 96


def test_histories_of_older_files_have_no_bounds() -> None:
    stored = json.loads(measured_history().to_json())
    later = ("nrc2_id25", "nrc2_variance", "energy_outside", "samples", "d", "bounds", "notes", *BALANCE)
    stored["records"] = [{k: v for k, v in row.items() if k not in later} for row in stored["records"]]
    history = History.from_dict(stored)
    assert history.records()[0].bounds == {}
    assert history.verdict[0].startswith("At step 2: ")


# ---- classes ----


def test_classes_that_are_collapsed_or_not() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(400) % 4
    centres = 3.0 * np.linalg.qr(rng.standard_normal((16, 4)))[0].T
    W = centres - centres.mean(axis=0)
    H = centres[labels] + 0.01 * rng.standard_normal((400, 16))
    report = nrc.measure_classes(H, labels, W, np.zeros(4))
    assert (
        report.verdict[0] == f"Collapsed: {report.nc1_share:.2g} of the variance lies within the classes (nc1_share)."
    )
    assert report.verdict[1].startswith("The class means form a simplex: ")
    assert report.verdict[2].startswith("W is near a multiple of the class means (nc3 0.0")
    assert tuple(str(report).splitlines()[2:5]) == report.verdict
    loose = nrc.measure_classes(H + rng.standard_normal((400, 16)) * np.linspace(0.1, 4, 16), labels)
    assert loose.verdict[0].startswith("Not collapsed: 0.")
    assert loose.verdict[-1] == "Give W and b for nc3, nc4 and the accuracy."
    assert repr(loose).startswith("<ClassReport of 400 samples of 4 classes, d = 16: nc1_share 0.")
    assert ClassReport.from_dict(json.loads(report.to_json())).verdict == report.verdict


@pytest.mark.parametrize(
    ("values", "sizes", "sentence"),
    [
        ({"nc1_share": 0.04}, {}, "On the way, not collapsed: 0.04 of"),
        ({"nc1_share": math.nan}, {}, "Nothing can be said of collapse"),
        ({"nc1_share": 0.0}, {"samples": 4}, "NC1 says nothing here"),
        (
            {"nc2_equinorm": 0.3, "nc2_equiangular": 0.0},
            {},
            "The class means form no simplex: their norms differ by 0.3",
        ),
        ({"nc2_equinorm": 0.0, "nc2_equiangular": 0.0}, {"n_classes": 2}, "NC2 says little of two classes"),
        ({"nc2_equinorm": 0.3, "nc2_equiangular": 0.0}, {"d": 2}, "The means of 4 classes have no room"),
        ({"nc3": 0.5, "nc4": 0.0, "accuracy": 1.0}, {}, "W is no multiple of the class means (nc3 0.5), and decides"),
        ({"nc3": 0.5, "nc4": 0.2, "accuracy": 1.0}, {}, "disagree on 20% of the rows"),
        ({"nc3": 0.5, "nc4": 0.2, "accuracy": 0.7}, {}, "Look at the fit first: the accuracy is 0.7"),
    ],
)
def test_rules_of_classes(values: dict[str, float], sizes: dict[str, int], sentence: str) -> None:
    found = classes_verdict({"nc1_share": 0.5} | values, {}, **({"samples": 100, "d": 8, "n_classes": 4} | sizes))
    assert any(sentence in part for part in found)


def test_bounds_of_classes_count() -> None:
    open_ = classes_verdict({"nc1_share": 5e-4}, {"nc1_share": 1e-3}, samples=100, d=8, n_classes=4)
    assert open_[0].startswith("It cannot be told whether the classes are collapsed: no larger than 1.5e-03")


# ---- layers ----


def layer(name: str, noise: float, *, d: int = 8, weights: float = 1.0, mse: float = 0.1, bound: float = 0.0) -> Any:
    return LayerCollapse(name, d, 2, noise, 0.9, weights, mse, 2.0, 2.0, {"noise_fraction": bound})


def deep(*layers: LayerCollapse, mse: float = 0.1) -> DeepReport:
    return DeepReport(layers, 100, 2, mse, 2.0, 1.5)


def test_layers_from_the_first_collapsed_one_on() -> None:
    report = deep(layer("a", 0.4, mse=0.5), layer("b", 0.02), layer("c", 1e-4, weights=0.8))
    assert report.verdict == (
        "Collapsed from b on, in the last 2 of 3 layers: less than 0.05 of the variance lies outside the signal.",
        "Not all weights of these layers follow the signal: weight alignment 0.8 at the least, in c.",
        "What b is given suffices: the error of its best affine readout is 0.1, that of the network 0.1.",
    )
    assert tuple(str(report).splitlines()[2:5]) == report.verdict
    assert repr(report) == "<DeepReport of 3 layers, 100 samples, n = 2: collapsed from b on>"
    assert repr(report.layers[0]) == "<LayerCollapse of a, d = 8: noise fraction 0.4, weight alignment 1>"
    everywhere = deep(layer("a", 0.01, mse=0.3), layer("b", 0.01)).verdict
    assert everywhere[0].startswith("All 2 layers are given collapsed features, from a on")
    assert everywhere[1] == "The weights of these layers follow the signal: weight alignment 1 at the least, in a."
    assert everywhere[2].startswith("The layers from a on still change the fit: the best affine readout has 0.3")
    assert deep(layer("a", 0.4), layer("b", 0.01)).verdict[0].startswith("Only the last layer, b, is given collapsed")


def test_layers_that_are_not_collapsed() -> None:
    assert deep(layer("a", 0.2), layer("b", 0.4)).verdict == (
        "No layer is collapsed: the noise fraction of the last, b, is 0.4, not below 0.05.",
        "The least noise is in a (0.2): what comes after it makes more.",
    )
    assert deep(layer("a", 0.4), layer("b", 0.2)).verdict[1].startswith("Measure again after more training")
    assert deep(layer("a", math.nan), layer("b", math.nan)).verdict[1].startswith("Measure again")
    doubt = deep(layer("a", 0.4), layer("b", 0.02, bound=0.1)).verdict[0]
    assert doubt.endswith("; the bound of b leaves it open.")
    small = deep(layer("a", 0.4), layer("b", 0.0, d=2)).verdict
    assert small[-1] == "No noise is possible in b, with no more features than targets."
