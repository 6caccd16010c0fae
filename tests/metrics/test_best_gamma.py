"""The best gamma in decimals against 50 digits, and the range of what its inputs may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nrc_fast.base.double_double import Pair
from nrc_fast.metrics.best_gamma import DecimalShapes

mp = pytest.importorskip("mpmath")
EPSILON = 2.0**-52


def drawn(seed: int, n: int) -> tuple[Pair, Pair, tuple[float, float]]:
    """Eigenvalues and entries of W W^T that go with them, each with digits that float64 does not hold."""
    rng = np.random.default_rng([seed, n])
    eigenvalues = np.sort(10.0 ** rng.uniform(-2.0, 1.0, n))[::-1]
    entries = np.sqrt(eigenvalues) - 0.5 * np.sqrt(eigenvalues[-1]) + 0.05 * rng.standard_normal(n)
    rests = (0.3 * EPSILON * rng.uniform(-1.0, 1.0, n) * part for part in (eigenvalues, entries))
    return *(Pair(part, rest) for part, rest in zip((eigenvalues, entries), rests, strict=True)), (0.1, 1e-18)


def exact_root(eigenvalues: Pair, entries: Pair) -> Any:
    """The stationary point of NRC3, cut to the interval."""
    values, diagonal = ([mp.mpf(a) + mp.mpf(b) for a, b in zip(*part, strict=True)] for part in (eigenvalues, entries))
    roots, n = [mp.sqrt(value) for value in values], len(values)
    tau, t = mp.fsum(roots) / n, mp.fsum(diagonal) / n
    p = mp.fsum((root - tau) * (entry - t) for root, entry in zip(roots, diagonal, strict=True))
    q = mp.fsum((root - tau) ** 2 for root in roots)
    return min(max(tau - t * q / p, 0), roots[-1]) if p > 0 else mp.mpf(0)


def distance(eigenvalues: Pair, entries: Pair, outside: tuple[float, float], root: Any) -> Any:
    values, diagonal = ([mp.mpf(a) + mp.mpf(b) for a, b in zip(*part, strict=True)] for part in (eigenvalues, entries))
    target, beside = [mp.sqrt(value) - root for value in values], mp.fsum(map(mp.mpf, outside))
    norm, size = mp.norm(target), mp.sqrt(mp.fsum(entry**2 for entry in diagonal) + beside)
    apart = [entry / size - part / norm for entry, part in zip(diagonal, target, strict=True)]
    return beside / size**2 + mp.fsum(part**2 for part in apart)


@pytest.mark.parametrize("n", [2, 3, 18])
def test_gamma_and_its_share_are_rounded_once(n: int) -> None:
    inside = 0
    for seed in range(20):
        eigenvalues, entries, outside = drawn(seed, n)
        found = DecimalShapes(eigenvalues, entries, outside)
        with mp.workdps(50):
            root = exact_root(eigenvalues, entries)
            smallest = mp.mpf(float(eigenvalues.high[-1])) + mp.mpf(float(eigenvalues.low[-1]))
            assert found.best_gamma == float(root**2)
            assert found.share == float(root**2 / smallest)
            assert found.least == float(distance(eigenvalues, entries, outside, root))
            assert found.distance(0.0) == float(distance(eigenvalues, entries, outside, mp.mpf(0)))
        inside += 0.0 < found.share < 1.0
    assert inside > 5


def test_changes_within_the_errors_stay_in_the_range() -> None:
    rng = np.random.default_rng(0)
    for seed in range(10):
        eigenvalues, entries, outside = drawn(seed, 3)
        found, off = DecimalShapes(eigenvalues, entries, outside), 1e-6
        for _ in range(20):
            change, moved = (rng.standard_normal(3) for _ in range(2))
            roots = np.sqrt(eigenvalues.high) + off * change / np.linalg.norm(change)
            others = Pair(roots**2, np.zeros(3)), Pair(entries.high + off * moved / np.linalg.norm(moved), np.zeros(3))
            with mp.workdps(50):
                root = float(exact_root(*others))
            for value, (lowest, highest) in (
                (root**2, found.range(off, off)),
                ((root / roots[-1]) ** 2, found.share_range(off, off)),
            ):
                assert lowest * (1.0 - 1e-12) <= value <= highest * (1.0 + 1e-12)
                assert highest - lowest < 1e-2


def test_nothing_is_known_where_the_smallest_root_is_within_its_error() -> None:
    zero = np.zeros(2)
    found = DecimalShapes(Pair(np.array([1.0, 1e-8]), zero), Pair(np.array([1.0, 0.5]), zero), (0.0, 0.0))
    assert found.share_range(1e-3, 0.0)[1] == 1.0
