"""What bounds rest on: every ground has a kind, and the least sure ground decides."""

from __future__ import annotations

import itertools

from nrc_fast.metrics.grounds import GROUNDS, KINDS, OF_SUMS, grounds_of_sums, kind_of
from nrc_fast.passes.moments import KINDS as PRODUCTS

ORDER = ("certified", "probable", "assumed", "statistical")


def test_the_least_sure_ground_decides() -> None:
    assert tuple(KINDS) == ORDER
    for first, second in itertools.product(GROUNDS, repeat=2):
        weakest = max(GROUNDS[first][0], GROUNDS[second][0], key=ORDER.index)
        assert kind_of([first, second]) == kind_of([second, first]) == weakest
    assert kind_of(()) == "certified"
    assert kind_of(["of a later version"]) == "assumed"


def test_every_way_to_multiply_has_its_grounds() -> None:
    assert set(OF_SUMS) == set(PRODUCTS)
    assert {kind: kind_of(grounds_of_sums([kind])) for kind in PRODUCTS} == {
        "double": "probable",
        "single": "probable",
        "device": "assumed",
        "fast": "assumed",
    }
    assert set().union(*OF_SUMS.values()) <= set(GROUNDS)
