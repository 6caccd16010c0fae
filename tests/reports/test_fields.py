"""Fields of results come back with the types that they are declared with, and nothing else does."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from nrc_fast.metrics.prediction import Prediction
from nrc_fast.reports import ClassReport, DeepReport, History, LayerCollapse, Record, Report
from nrc_fast.reports.fields import READERS, declared_fields, restored_fields, restored_value
from nrc_fast.reports.steps import STORED

# Of every kind that JSON holds, and what is no number though Python counts it as one.
VALUES: list[Any] = [
    None,
    True,
    3,
    10**400,
    -0.5,
    math.inf,
    "<b>",
    "4",
    [],
    [1, "2"],
    [[1.0], [1.0, 2.0]],
    {},
    {"a": []},
]
FITTING: dict[str, list[int]] = {
    "int": [2],
    "float": [0, 2, 4, 5],
    "str": [6, 7],
    "tuple[str, ...]": [8],
    "tuple[float, ...]": [8],
    "FloatArray": [8],
    "list[FloatArray]": [8, 10],
    "Mapping[str, float]": [11],
    "Mapping[str, float | FloatArray]": [11, 12],
    "Mapping[str, Mapping[str, float]]": [11],
    "Mapping[str, tuple[str, ...]]": [11, 12],
}


@pytest.mark.parametrize("kind", READERS)
def test_each_type_takes_its_own_values_alone(kind: str) -> None:
    for place, value in enumerate(VALUES):
        if place in FITTING[kind]:
            restored_value(kind, value, "x")
        else:
            with pytest.raises(ValueError, match=r"x(?: of 'a')? is .* is expected"):
                restored_value(kind, value, "x")


def test_numbers_come_back() -> None:
    assert restored_value("int", np.int64(5), "x") == 5
    assert restored_value("float", 3, "x") == 3.0
    assert math.isnan(restored_value("float", None, "x"))
    assert restored_value("Mapping[str, Mapping[str, float]]", {"a": {"b": 1}}, "x") == {"a": {"b": 1.0}}
    matrix = restored_value("FloatArray", [[1.0, None], [3, 4.0]], "x")
    np.testing.assert_array_equal(matrix, [[1.0, math.nan], [3.0, 4.0]])
    assert restored_fields({"a": "int", "b": "str"}, {"a": 1, "c": 2}, optional=["b"]) == {"a": 1}


@pytest.mark.parametrize("kind", [Report, ClassReport, LayerCollapse, DeepReport, Record, Prediction])
def test_every_field_of_every_result_has_a_type_that_is_checked(kind: type[Any]) -> None:
    own = {"ufm", "layers"}
    assert dataclasses.is_dataclass(kind)
    assert set(declared_fields(kind).values()) - {declared_fields(kind).get(name) for name in own} <= set(READERS)


def test_every_field_of_a_history_is_checked() -> None:
    values = History("run").to_dict()
    History.from_dict(json.loads(json.dumps(values)))
    for name in STORED:
        for value in (5.5, True, {"a": 1}, "<b>" if STORED[name] != "str" else 1):
            with pytest.raises(ValueError, match="holds no history"):
                History.from_dict(values | {name: value})
