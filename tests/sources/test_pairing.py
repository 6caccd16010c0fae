"""Files that are listed in another order than their targets are refused; those whose order is known are taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc

RNG = np.random.default_rng(0)
COUNT, ROWS = 12, 20
Y = RNG.standard_normal((COUNT * ROWS, 2))
W = RNG.standard_normal((2, 6))
H = Y @ np.linalg.pinv(W).T + 0.1 * RNG.standard_normal((COUNT * ROWS, 6))
MSE = np.mean(np.sum((H @ W.T - Y) ** 2, axis=1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, array in (("h", H), ("y", Y)):
        np.save(tmp_path / f"{name}.npy", array)
        for number in range(COUNT):
            np.save(tmp_path / f"{name}_{number}.npy", array[ROWS * number : ROWS * (number + 1)])
    np.savez(tmp_path / "pair.npz", h=H, y=Y)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def natural(name: str) -> list[str]:
    return [f"{name}_{number}.npy" for number in range(COUNT)]


def as_the_shell(name: str) -> list[str]:
    return sorted(natural(name))


def measured(features: Any, targets: Any) -> float:
    found = nrc.measure(features, targets, W, np.zeros(2)).mse
    assert found is not None
    return found


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("features", "targets"),
    [
        (as_the_shell("h"), "y.npy"),
        (as_the_shell("h"), ["y.npy"]),
        (as_the_shell("h"), "y_*.npy"),
        (as_the_shell("h"), natural("y")),
        (as_the_shell("h"), Y),
        (as_the_shell("h")[::-1], "y.npy"),
        ("h_*.npy", as_the_shell("y")),
        ("h.npy", as_the_shell("y")),
        (natural("h"), as_the_shell("y")),
        (H, as_the_shell("y")),
        ([Path(name) for name in as_the_shell("h")], Path("y.npy")),
    ],
)
def test_other_orders_than_that_of_the_targets_are_refused(features: Any, targets: Any) -> None:
    for run in (lambda: measured(features, targets), lambda: nrc.open(features, targets)):
        with pytest.raises(ValueError, match="are listed in the order ") as raised:
            run()
        for numbers in (r"1, 10, 11, 2|9, 8, 7, 6", r"1, 2, 3, 4|0, 1, 2, 3"):
            assert re.search(numbers.replace(",", ".npy, [hy]_").replace("_ ", "_"), str(raised.value))
    if not isinstance(features, str):
        with pytest.raises(ValueError, match="are listed in the order "):
            nrc.measure(nrc.open(features), targets, W)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("features", "targets"),
    [
        ("h_*.npy", "y.npy"),
        ("h_*.npy", "y_*.npy"),
        ("h_*.npy", Y),
        (natural("h"), "y.npy"),
        (natural("h"), natural("y")),
        (natural("h"), "y_*.npy"),
        (natural("h"), Y),
        (["h_*.npy"], ["y_*.npy"]),
        (as_the_shell("h"), as_the_shell("y")),
        (natural("h")[::-1], natural("y")[::-1]),
        (H, natural("y")),
    ],
)
def test_orders_that_fit_give_the_number(features: Any, targets: Any) -> None:
    assert measured(features, targets) == pytest.approx(MSE, rel=1e-12)
    assert measured(nrc.open(features), targets) == pytest.approx(MSE, rel=1e-12)


def save(names: Sequence[str], array: Any) -> list[str]:
    for name, part in zip(names, np.array_split(array, len(names)), strict=True):
        Path(name).parent.mkdir(exist_ok=True)
        np.save(name, part)
    return list(names)


@pytest.mark.usefixtures("folder")
def test_names_without_numbers() -> None:
    """Refused beside one file; taken as they are listed beside as many, or beside an array that is at hand."""
    features, targets = save(["train_h.npy", "test_h.npy"], H), save(["train_y.npy", "test_y.npy"], Y)
    with pytest.raises(ValueError, match=r"train_h\.npy, test_h\.npy, and y\.npy is .*: test_h\.npy, train_h\.npy"):
        measured(features, "y.npy")
    assert measured(features, targets) == pytest.approx(MSE, rel=1e-12)
    assert measured(features, save(["first.npy", "second.npy"], Y)) == pytest.approx(MSE, rel=1e-12)
    assert measured(features, Y) == pytest.approx(MSE, rel=1e-12)


@pytest.mark.usefixtures("folder")
def test_numbers_of_folders() -> None:
    features, targets = save(["run_10/h.npy", "run_9/h.npy"], H), save(["run_10/y.npy", "run_9/y.npy"], Y)
    assert measured(features, targets) == pytest.approx(MSE, rel=1e-12)
    for other in (targets[::-1], "y.npy", "run_*/y.npy"):
        with pytest.raises(ValueError, match=r"run_10/h\.npy, run_9/h\.npy, and .*run_9/"):
            measured(features, other)


@pytest.mark.usefixtures("folder")
def test_features_and_targets_of_the_same_files(tmp_path: Path) -> None:
    """Whatever the order, a row and its target are in one file; so they are in batches."""
    names = [f"part_{number}.npz" for number in range(COUNT)]
    for number, name in enumerate(names):
        rows = slice(ROWS * number, ROWS * (number + 1))
        np.savez(tmp_path / name, h=H[rows], y=Y[rows])
    for given in (sorted(names), names[::-1], "part_*.npz"):
        source = nrc.open(given, key="h", target_key="y")
        found = nrc.measure(source.share(0, 1), W=W, b=np.zeros(2)).mse
        assert found == pytest.approx(MSE, rel=1e-12)
    batches = [(np.load(f"h_{name[2:]}"), np.load(name)) for name in as_the_shell("y")]
    assert nrc.measure(batches, W=W, b=np.zeros(2)).mse == pytest.approx(MSE, rel=1e-12)


@pytest.mark.usefixtures("folder")
def test_without_targets_files_come_as_they_are_listed() -> None:
    table = nrc.open(as_the_shell("h"))
    (chunk,) = table.chunks(COUNT * ROWS)
    wanted = np.concatenate([np.load(name) for name in as_the_shell("h")])
    np.testing.assert_array_equal(chunk.features.to_float64(), wanted)
