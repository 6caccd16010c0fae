"""How sure bounds are, in one place: of every kind of result, there and back, and of results that do not say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

import nrc_fast as nrc
from nrc_fast.measurement.layer_conditions import layer_collapse
from nrc_fast.reports import GROUNDS, ClassReport, LayerCollapse, Report
from nrc_fast.reports.bound_kinds import kinds_line


def results() -> list[Report | ClassReport | LayerCollapse]:
    rng = np.random.default_rng(0)
    H, Y, W = rng.standard_normal((60, 6)), rng.standard_normal((60, 2)), rng.standard_normal((2, 6))
    labels = np.arange(60) % 3
    return [
        nrc.measure(H, Y, W, np.zeros(2)),
        nrc.measure_classes(H, labels, rng.standard_normal((3, 6)), np.zeros(3)),
        layer_collapse(nrc.FeatureStatistics(6, n_targets=2).update(H, Y), W),
    ]


def numbers_with_bounds(result: Report | ClassReport | LayerCollapse) -> set[str]:
    others = result.alternative_bounds if isinstance(result, Report) else {}
    return {*result.bounds, *(f"{metric} {name}" for name, bounds in others.items() for metric in bounds)}


def test_every_bound_has_a_kind_and_comes_back_with_it() -> None:
    for result in results():
        kinds = result.bound_kinds
        assert set(kinds) == numbers_with_bounds(result)
        stored = json.loads(result.to_json())
        assert stored["bound_kinds"] == kinds
        assert type(result).from_dict(stored).bound_kinds == kinds
        assert {ground for grounds in result.bound_grounds.values() for ground in grounds} <= set(GROUNDS)


def test_results_of_versions_that_did_not_say_are_read() -> None:
    for result in results():
        stored = result.to_dict()
        del stored["bound_kinds"], stored["bound_grounds"]
        old = type(result).from_dict(stored)
        assert old.bound_kinds == {}
        assert old.bounds.keys() == result.bounds.keys()
        assert "bound_kinds" not in str(old)


def test_the_text_says_which_bounds_are_assumed() -> None:
    for result in results():
        assert kinds_line(result.bound_kinds) == ""
        if not isinstance(result, LayerCollapse):
            name = next(iter(result.bounds))
            assumed = replace(result, bound_grounds={**result.bound_grounds, name: ("tensor cores",)})
            assert (
                str(assumed) == f"{result}\nbounds of {name} rest on how tensor cores round (assumed); see bound_kinds"
            )
