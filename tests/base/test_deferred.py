"""Mappings that are computed when they are first looked at."""

from __future__ import annotations

import copy
import pickle

import pytest

from nrc_fast.base.deferred import DeferredMapping


def test_is_computed_once_and_when_it_is_looked_at() -> None:
    calls: list[int] = []

    def compute() -> dict[str, float]:
        calls.append(1)
        return {"mse": 0.5, "r2": 0.25}

    found = DeferredMapping(compute)
    assert not calls
    assert (found["r2"], len(found), list(found)) == (0.25, 2, ["mse", "r2"])
    assert found == {"mse": 0.5, "r2": 0.25}
    assert repr(found) == "{'mse': 0.5, 'r2': 0.25}"
    assert calls == [1]
    with pytest.raises(KeyError, match="cka"):
        found["cka"]


def test_a_failure_is_met_again_at_the_next_look() -> None:
    found: DeferredMapping[int] = DeferredMapping(lambda: {"inverse": 1 // 0})
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            found["inverse"]


def test_pickles_and_copies_are_dictionaries() -> None:
    found = DeferredMapping(lambda: {"four": 16})
    for other in (pickle.loads(pickle.dumps(found)), copy.copy(found), copy.deepcopy(found)):
        assert type(other) is dict
        assert other == {"four": 16}
