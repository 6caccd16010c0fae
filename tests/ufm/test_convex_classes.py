"""Neural collapse of minima under cross-entropy: against measured features, and where classes merge."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.ufm import convex

SET_UPS = [[60, 20, 20], [40, 40, 5, 5, 5], [30, 12, 12, 4, 4, 4]]


def groups(counts: list[int]) -> list[tuple[int, ...]]:
    """Classes of one size, where there are several."""
    sizes = np.array(counts)
    return [tuple(np.flatnonzero(sizes == size).tolist()) for size in sorted(set(counts)) if counts.count(size) > 1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("counts", SET_UPS)
def test_classes_of_a_size_merge_at_their_share(counts: list[int], bias: bool) -> None:
    total = sum(counts)
    for group in groups(counts):
        threshold = counts[group[0]] / total
        for factor in (0.97, 1.0, 1.03):
            c = factor * threshold
            found = convex(
                range(len(counts)), weights=counts, loss="cross_entropy", lambda_W=1.0, lambda_H=c, bias=bias
            )
            assert found.merge_thresholds[group[0]] == threshold
            if factor >= 1:
                assert any(set(group) <= set(merged) for merged in found.merged)
            else:
                assert not any(len(set(group) & set(merged)) > 1 for merged in found.merged)


def test_one_hot_targets_merge_at_the_same_share() -> None:
    Y = np.eye(5)
    counts = [40, 40, 6, 6, 8]
    for factor, same in ((0.97, False), (1.03, True)):
        found = convex(Y, weights=counts, lambda_W=1.0, lambda_H=factor * 0.06)
        logits = found.predictions(Y)
        assert (np.abs(logits[2] - logits[3]).max() < 1e-9) == same


@pytest.mark.parametrize("counts", [[30, 20, 15, 10, 7], [25, 25, 25, 25]])
def test_the_report_is_that_of_its_features(counts: list[int]) -> None:
    found = convex(range(len(counts)), weights=counts, loss="cross_entropy", lambda_W=0.02, lambda_H=0.03)
    assert abs(found.bias.mean()) < 1e-14
    labels = np.repeat(np.arange(len(counts)), counts)
    measured = nrc.measure_classes(found.features(labels), labels, found.weights(), found.bias)
    report = asdict(found.classes)
    assert found.merged == ()
    for name, value in asdict(measured).items():
        if isinstance(value, float):
            assert report[name] == pytest.approx(value, rel=1e-9, abs=1e-7), name
    assert report["samples"] == measured.samples == sum(counts)
    assert report["accuracy"] == 1.0


def test_merged_classes_count_with_their_chance() -> None:
    counts = [60, 40, 6, 6, 6, 2]
    found = convex(range(6), weights=counts, loss="cross_entropy", lambda_W=1.0, lambda_H=0.15)
    assert found.merged == ((2, 3, 4),)
    report = found.classes
    outputs = found.predictions(range(6))
    assert report.accuracy == pytest.approx(sum(counts[k] for k in range(6) if outputs[k].argmax() == k) / 120)
    everything = convex(range(4), loss="cross_entropy", lambda_W=1.0, lambda_H=1.0)
    assert everything.merged == ((0, 1, 2, 3),)
    assert everything.rank == 0
    assert everything.classes.accuracy == 0.25
    assert np.isnan(everything.classes.nc2_etf)


def test_at_a_large_gap_groups_are_said_to_be_uncertain() -> None:
    loose, tight = (
        convex(range(3), weights=[60, 20, 20], loss="cross_entropy", lambda_W=1.0, lambda_H=0.19, tolerance=tolerance)
        for tolerance in (0.05, 1e-8)
    )
    assert (loose.merged, tight.merged) == (((1, 2),), ())
    note = "note: at so large a gap the classes that merge may be others"
    assert note in str(loose)
    assert note in loose._repr_html_()
    assert note not in str(tight) + tight._repr_html_()


def test_what_is_asked_of_other_losses_and_batches_says_so() -> None:
    found: Any = convex(np.eye(3), lambda_W=0.1, lambda_H=0.1)
    for name in ("classes", "merged", "merge_thresholds"):
        with pytest.raises(ValueError, match="classes are those of 'cross_entropy'"):
            getattr(found, name)
    batch = convex(range(3), loss="cross_entropy", lambda_W=0.1, lambda_H=[0.1, 0.2])
    with pytest.raises(ValueError, match=r"take one minimum of it, as in found\[0\]"):
        _ = batch.classes
    assert batch[1].merged == convex(range(3), loss="cross_entropy", lambda_W=0.1, lambda_H=0.2).merged
