"""Results go to dictionaries and JSON text and come back with every number, NaN and infinity included."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.reports import ClassReport, DeepReport, History, LayerCollapse, Report
from nrc_fast.reports.records import StoredResult, format_value


def report(**options: Any) -> Report:
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((200, 2))
    W = rng.standard_normal((2, 5))
    return nrc.measure(Y @ np.linalg.pinv(W).T + 0.1 * rng.standard_normal((200, 5)), Y, W, np.zeros(2), **options)


def class_report() -> ClassReport:
    rng = np.random.default_rng(1)
    return nrc.measure_classes(rng.standard_normal((60, 4)), np.arange(60) % 3, n_classes=3)


def deep_report() -> DeepReport:
    layers = [
        LayerCollapse(name, 8, 2, noise, 1.0, math.nan, 0.0, 2.0, 2.0, {"linear_mse": 0.5})
        for name, noise in (("a", 0.3), ("b", 0.01))
    ]
    return DeepReport(tuple(layers), 10, 2, math.nan, 1.5, 1.25, bounds={"mse": math.nan})


def history() -> History:
    found = History("run", "nrc24")
    rng = np.random.default_rng(2)
    for step in (0, 10):
        H, Y, W = rng.standard_normal((50, 4)), rng.standard_normal((50, 2)), rng.standard_normal((2, 4))
        statistics = nrc.FeatureStatistics(4, n_targets=2).update(H, Y)
        found.add(step, statistics.report(W, np.zeros(2)), W, statistics.target_covariance)
    return found


MAKERS = [report, class_report, deep_report, history]


def same(first: Any, second: Any) -> bool:
    """Whether two fields hold the same, NaN equal to NaN."""
    if isinstance(first, Mapping):
        return (
            isinstance(second, Mapping)
            and first.keys() == second.keys()
            and all(same(first[k], second[k]) for k in first)
        )
    if isinstance(first, (list, tuple)):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, np.ndarray):
        return isinstance(second, np.ndarray) and np.array_equal(first, second, equal_nan=True)
    if isinstance(first, float) and math.isnan(first):
        return isinstance(second, float) and math.isnan(second)
    if hasattr(first, "__dataclass_fields__"):
        return type(first) is type(second) and same(vars(first), vars(second))
    return type(first) is type(second) and bool(first == second)


@pytest.mark.parametrize("make", MAKERS)
def test_every_number_comes_back_from_a_dictionary_and_from_json(make: Any, tmp_path: Path) -> None:
    made = make()
    kind = type(made)
    text = made.to_json(tmp_path / "made.json")
    assert (tmp_path / "made.json").read_text(encoding="utf-8") == text + "\n"
    for values in (made.to_dict(), json.loads(text)):
        back = kind.from_dict(values)
        assert same(vars(made), vars(back))
        assert back.to_json() == text


@pytest.mark.parametrize(
    ("value", "bound", "text"),
    [
        (0.94194, 0.0193, "0.942  +- 0.020"),
        (0.94194, 0.02, "0.942  +- 0.021"),
        (0.942, 0.02, "0.942  +- 0.020"),
        (0.99996, 0.0123, "1.00  +- 0.013"),
        (-82.94731, 4.6e-11, "-82.9473  +- 4.6e-11"),
        (0.0193126, 3e-6, "0.0193126  +- 3.0e-06"),
        (123.4, 25.0, "123  +- 26"),
        (1234.5, 250.0, "1.23e+03  +- 2.6e+02"),
        (0.0611, 0.061, "0.061  +- 0.062"),
        (0.0611, 0.0612, "<= 0.13"),
        (0.0, 1e-15, "<= 1.0e-15"),
        (-2e-9, 1e-8, "<= 1.2e-08"),
        (0.25, 0.0, "0.25"),
        (0.25, math.inf, "0.25"),
        (0.25, None, "0.25"),
        (math.nan, 0.1, "nan"),
    ],
)
def test_digits_follow_the_bound(value: float, bound: float | None, text: str) -> None:
    assert format_value(value, bound) == text


def test_what_is_printed_holds_the_value() -> None:
    rng = np.random.default_rng(6)
    for value, share in zip(10.0 ** rng.uniform(-9, 6, 2000), 10.0 ** rng.uniform(-5, -0.01, 2000), strict=True):
        bound = float(value * share)
        number, beside = map(float, format_value(float(value), bound).split("  +- "))
        assert abs(number - value) + bound <= beside * (1.0 + 1e-5) + 0.5 * 10.0 ** (math.floor(math.log10(value)) - 5)
        assert beside <= 1.2 * bound


def test_infinite_bounds_come_back() -> None:
    made = class_report()
    infinite = ClassReport(**vars(made) | {"bounds": {"nc1": math.inf, "cdnv": 0.25}})
    assert '"nc1": null' in infinite.to_json()
    assert ClassReport.from_dict(json.loads(infinite.to_json())).bounds == {"nc1": math.inf, "cdnv": 0.25}


def test_fields_that_older_files_lack() -> None:
    values = report().to_dict()
    del values["ufm"]
    assert Report.from_dict(values).ufm is None
    values = class_report().to_dict()
    del values["bounds"]
    assert ClassReport.from_dict(values).bounds == {}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("broken", [{}, [], None, "text", {"samples": 1}])
def test_something_else_is_refused_by_name(make: Any, broken: Any) -> None:
    kind: type[StoredResult] = type(make())
    with pytest.raises(ValueError, match=f"holds no {kind._described}"):
        kind.from_dict(broken)


@pytest.mark.parametrize(
    ("make", "name"), [(report, "notes"), (report, "ufm"), (deep_report, "layers"), (class_report, "bounds")]
)
def test_fields_of_another_kind_are_refused(make: Any, name: str) -> None:
    made = make()
    with pytest.raises(ValueError, match=f"holds no {made._described}: .*int"):
        type(made).from_dict(made.to_dict() | {name: 5})
