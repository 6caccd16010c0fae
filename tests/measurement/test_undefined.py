"""Every NaN of a report has a note that says why."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.measurement.layer_conditions import layer_collapse
from nrc_fast.measurement.undefined import notes_of_layers
from nrc_fast.metrics.classes import VARIANTS

RNG = np.random.default_rng(0)
H, W, Y = RNG.standard_normal((60, 8)), RNG.standard_normal((2, 8)), RNG.standard_normal((60, 2))
OF_TARGETS = {"cka", "gamma", "nrc3", "r2"}

CASES: dict[str, tuple[tuple[Any, ...], set[str], str]] = {
    "constant targets": ((H, np.ones_like(Y), W, np.zeros(2)), {*OF_TARGETS, "cka_debiased"}, "targets do not vary"),
    "one target": ((H, Y[:, :1], W[:1], np.zeros(1)), {"gamma", "nrc3"}, "One target"),
    "no weights": ((H, Y, 0.0 * W, np.zeros(2)), {"gamma", "nrc2", "nrc3"}, "W is zero"),
    "constant features": (
        (np.ones_like(H), Y, W, np.zeros(2)),
        {"cka", "cka_debiased", "effective_rank", "stable_rank"},
        "features do not vary",
    ),
    "zero features": (
        (0.0 * H, Y, W, np.zeros(2)),
        {"nrc1", "nrc2", "cka", "cka_debiased", "effective_rank", "stable_rank"},
        "All rows are zero",
    ),
    "three samples": ((H[:3], Y[:3], W, np.zeros(2)), {"cka_debiased"}, "needs 4 samples"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_defined_has_a_note(case: str) -> None:
    arrays, undefined, reason = CASES[case]
    report = nrc.measure(*arrays)
    names = ("nrc1", "nrc2", "nrc3", "gamma", "cka", "cka_debiased", "mse", "r2", "linear_mse")
    found = {name for name in (*names, "effective_rank", "stable_rank") if math.isnan(getattr(report, name))}
    assert found == undefined
    assert [note for note in report.notes if reason in note]
    once = nrc.FeatureStatistics(8, n_targets=arrays[1].shape[1]).update(*arrays[:2]).report(*arrays[2:])
    assert [note for note in once.notes if reason in note]


def test_defined_numbers_have_no_such_note() -> None:
    notes = nrc.measure(H, Y, W, np.zeros(2)).notes
    assert not [note for note in notes if "NaN" in note or "not determined" in note]


def test_whitened_targets_do_not_determine_gamma() -> None:
    whitened = np.linalg.svd(Y - Y.mean(axis=0), full_matrices=False)[0] * np.sqrt(len(Y))
    report = nrc.measure(H, whitened, W, np.zeros(2))
    assert [note for note in report.notes if "multiple of the identity within its error" in note]
    assert report.gamma - report.bounds["gamma"] <= 0.0
    assert report.gamma + report.bounds["gamma"] >= 1.0


LABELS = np.arange(60) % 3
CLASSES: dict[str, tuple[tuple[Any, ...], Any, set[str], str]] = {
    "equal means": (
        (np.repeat(H[:20], 3, axis=0), LABELS),
        None,
        {"nc1", "nc1_sum", "nc1_ratio", "nc2_etf"},
        "means of all classes are equal",
    ),
    "a single row": ((H[:31], np.array([0, 1] * 15 + [2])), None, {"cdnv_unbiased"}, "a single row"),
    "no weights": ((H, LABELS), np.zeros((3, 8)), {"nc3", "nc3_squared", "nc3_etf", "nc2_etf_weights"}, "W is zero"),
    "two equal means": (
        (np.where((LABELS > 0)[:, np.newaxis], np.repeat(H[:20], 3, axis=0), H), LABELS),
        None,
        {"cdnv", "cdnv_unbiased"},
        "same mean",
    ),
}


@pytest.mark.parametrize("case", CLASSES)
def test_what_is_not_defined_of_classes_has_a_note(case: str) -> None:
    rows, weights, undefined, reason = CLASSES[case]
    report = nrc.ClassStatistics(8, 3).update(*rows).report(weights)
    assert all(not math.isfinite(getattr(report, name)) for name in undefined)
    (note,) = [note for note in report.notes if reason in note]
    assert all(name in note for name in undefined)
    assert f"note: {note}" in str(report)
    assert type(report).from_dict(report.to_dict()).notes == report.notes


def test_notes_of_classes_are_of_numbers_that_are_not_defined() -> None:
    report = nrc.ClassStatistics(8, 3).update(H, LABELS).report(RNG.standard_normal((3, 8)))
    assert report.notes == ()
    assert all(math.isfinite(getattr(report, name)) for name in VARIANTS if name not in {"nc4", "accuracy"})


def test_what_is_not_defined_of_layers_has_a_note() -> None:
    constant = layer_collapse(nrc.FeatureStatistics(8, n_targets=2).update(np.ones_like(H), Y), W, name="fc1")
    embedding = layer_collapse(nrc.FeatureStatistics(8, n_targets=2).update(H, Y), name="fc2")
    whole = layer_collapse(nrc.FeatureStatistics(8, n_targets=2).update(H, Y), W, name="fc3")
    assert notes_of_layers([whole], 0.5, target_variance=2.0) == []
    notes = notes_of_layers([constant, embedding, whole], math.nan, target_variance=0.0)
    assert math.isnan(constant.noise_fraction)
    assert math.isnan(embedding.weight_stable_rank)
    for reason in ("shape of the targets", "targets do not vary", "features of fc1 do not", "weights of fc2 are"):
        assert [note for note in notes if reason in note]


@pytest.mark.parametrize("read", ["again", "once"])
def test_components_that_tie_are_named(read: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((200, 4))
    scores = np.linalg.qr(scores - scores.mean(axis=0))[0] * [20.0, 10.0, 10.0, 1.0]
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0][:4]
    H = scores @ axes + 1.0
    units = H / np.linalg.norm(H, axis=1, keepdims=True)
    for n, is_tie in ((1, False), (2, True), (3, False)):
        report = nrc.measure(H if read == "again" else iter([H]), n=n)
        assert any(note.startswith(f"Components {n} and {n + 1} tie") for note in report.notes) == is_tie
        bounds = report.bounds["nrc1_by_k"]
        assert max(bounds[0], bounds[2]) < 1e-10  # one and three components are determined
        for angle in np.linspace(0.0, np.pi, 7):  # whichever direction of those that tie is taken for the second
            basis = np.stack([axes[0], np.cos(angle) * axes[1] + np.sin(angle) * axes[2]])
            value = np.mean(np.sum((units - units @ basis.T @ basis) ** 2, axis=1))
            assert abs(report.nrc1_by_k[1] - value) <= bounds[1]
        assert bounds[1] <= report.nrc1_by_k[0] - report.nrc1_by_k[2] + 1e-10


def test_components_below_the_rounding_are_counted() -> None:
    H = np.outer(np.arange(20.0), np.arange(1.0, 5.0))
    assert "Only 1 of 3 components can be told from the rounding of what was added up." in nrc.measure(H, n=3).notes
