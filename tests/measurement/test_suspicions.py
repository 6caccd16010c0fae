"""Valid calls that are probably not what was meant are told, and common ones are not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.measurement.suspicions import notes_on_files

RNG = np.random.default_rng(0)
H = RNG.standard_normal((600, 8))
W = RNG.standard_normal((2, 8))
Y = H @ W.T + 0.1 * RNG.standard_normal((600, 2))


def suspicious(words: str) -> Any:
    return pytest.warns(nrc.SuspiciousInputWarning, match=words)


# ---- sizes ----


def test_weights_and_features_that_are_swapped() -> None:
    words = r"W has 600 rows and H has 2: H is \(N, d\) and W is \(n, d\), are they swapped\?"
    with suspicious(words) as caught:
        assert nrc.nrc2(W, H) == pytest.approx(0.0, abs=1e-14)
    assert caught[0].filename == __file__
    with suspicious(words):
        nrc.nrc2(W, H, return_bound=True)
    assert any("are they swapped?" in note for note in nrc.measure(W, W=H).notes)


def test_features_that_are_transposed() -> None:
    with suspicious(r"H has 8 rows of 600 features: a row is a sample\. If a column is one, give H\.T"):
        nrc.nrc1(H.T, 2)
    assert any("give H.T" in note for note in nrc.measure(H.T, n=2).notes)


def test_sizes_in_common_use_are_not_suspicious() -> None:
    few = RNG.standard_normal((60, 512))  # an evaluation batch of a wide network
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nrc.nrc1(few, 3)
        nrc.nrc1(H, 2)
        nrc.nrc2(H, W)
        nrc.nrc2(few, RNG.standard_normal((60, 512)))  # as many outputs as samples
        nrc.nrc2(iter([H]), W)
        nrc.nrc3(W, Y)
    head = RNG.standard_normal((2, 512))
    targets = RNG.standard_normal((20, 2))
    wide = nrc.measure(few[:20], targets, head)  # pairs of rows are what they are
    assert not any("give H.T" in note for note in wide.notes)
    notes = nrc.measure(H, Y, W, np.zeros(2)).notes
    assert all(note.startswith("The balance implies a negative weight decay") for note in notes)  # W is not trained


# ---- targets ----


def test_targets_that_are_one_hot() -> None:
    labels = np.eye(3)[RNG.integers(0, 3, 600)]
    head = RNG.standard_normal((3, 8))
    words = "The targets are one-hot: for labels of classes measure_classes"
    for targets in (labels, labels.astype(np.float32)):
        assert any(note.startswith(words) for note in nrc.measure(H, targets, n=3).notes)
        for call in (nrc.nrc3, nrc.nrc3_gamma):
            with suspicious(words) as caught:
                call(head, targets)
            assert caught[0].filename == __file__
    with suspicious(words):
        nrc.nrc3_curve(head, labels, [0.0])
    statistics = nrc.FeatureStatistics(8, n_targets=3).update(H, labels)
    assert any(note.startswith(words) for note in statistics.report().notes)


@pytest.mark.parametrize(
    "targets",
    [
        RNG.standard_normal((600, 3)),
        RNG.integers(0, 2, (600, 3)).astype(float),  # several attributes, each yes or no
        RNG.integers(0, 2, (600, 1)).astype(float),
        RNG.dirichlet(np.ones(3), 600),  # shares that add up to 1
        0.9 * np.eye(3)[RNG.integers(0, 3, 600)] + 0.1 / 3,
    ],
)
def test_other_targets_are_not_one_hot(targets: Any) -> None:
    assert not any("one-hot" in note for note in nrc.measure(H, targets).notes)


# ---- the bias ----


def test_a_bias_that_was_forgotten() -> None:
    shifted = Y + np.array([3.0, -1.0])
    given, zero, other = (
        [note for note in nrc.measure(H, shifted, W, b).notes if "offset" in note]
        for b in (None, np.zeros(2), np.array([-3.0, 1.0]))
    )
    assert len(given) == len(zero) == len(other) == 1
    assert given[0].startswith("W h fits the targets but for an offset, whose square is 1")
    assert "b was not given" in given[0]
    assert "b is zero" in zero[0]
    assert "b does not fit" in other[0]
    streamed = nrc.FeatureStatistics(8, n_targets=2).update(H, shifted).report(W)
    assert given[0] in streamed.notes


def test_heads_that_fit_or_are_untrained_have_no_offset() -> None:
    shifted = Y + np.array([3.0, -1.0])
    rng = np.random.default_rng(5)
    for targets, head, b in (
        (shifted, W, np.array([3.0, -1.0])),
        (shifted, W, np.array([3.1, -1.0])),  # on other samples than those of the training
        (shifted, rng.standard_normal((2, 8)), np.zeros(2)),
        (shifted, 1e-3 * rng.standard_normal((2, 8)), None),
        (Y, W, None),
        (np.ones((600, 2)), W, None),
    ):
        assert not any("offset" in note for note in nrc.measure(H, targets, head, b).notes)


@pytest.mark.parametrize("scale", [1e160, 1e-160])
def test_weights_out_of_range_are_no_suspicion_and_no_warning(scale: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not any("offset" in note for note in nrc.measure(H, Y, scale * W).notes)


# ---- files ----


def saved(folder: Path, names: list[str]) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / name, H)
    return [str(folder / name) for name in names]


def test_files_of_several_trainings(tmp_path: Path) -> None:
    paths = saved(tmp_path, ["seed_0/h.npy", "seed_1/h.npy"])
    words = r"2 files \(seed_0/h.npy, seed_1/h.npy\) are taken for parts of one feature set, and their names look like"
    with suspicious(words):
        nrc.nrc1(paths, 2)
    with suspicious(words):
        nrc.nrc2(str(tmp_path / "*" / "h.npy"), W)
    assert any("Measure each by itself" in note for note in nrc.measure(paths, n=2).notes)


@pytest.mark.parametrize(
    "names",
    [
        ["h_run1.npy", "h_run2.npy"],
        ["wd=0.1/h.npy", "wd=0.01/h.npy"],
        ["a/lr0.1/h.npy", "a/lr0.2/h.npy"],
        ["epoch-3.npy", "epoch-12.npy"],
        ["weight_decay_5e-3/H.npy", "weight_decay_1e-3/H.npy"],
    ],
)
def test_names_of_trainings(names: list[str]) -> None:
    assert len(notes_on_files([Path(name) for name in names])) == 1


@pytest.mark.parametrize(
    "names",
    [
        ["rank_0/h.npy", "rank_1/h.npy"],
        ["h_0.npy", "h_1.npy"],
        ["shard-00001-of-00004.npy", "shard-00002-of-00004.npy"],
        ["part0.parquet", "part1.parquet"],
        ["seed_3/h_0.npy", "seed_3/h_1.npy"],  # parts of one run
        ["run1/epoch3/h_0.npy", "run1/epoch3/h_1.npy"],
        ["held3.npy", "held4.npy"],  # no "wd" or "lr" of their own
        ["run_1/h.npy"],
        ["run_1/h.npy", "h.npy"],
        [],
    ],
)
def test_names_of_parts(names: list[str]) -> None:
    assert notes_on_files([Path(name) for name in names]) == []
