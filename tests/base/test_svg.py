"""Lines go where the values are, on linear and on logarithmic scales, in colours that stand out on both grounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.drawings import points, tree

from nrc_fast.base.svg import MARGIN, PALETTE, SPARK, Scale, path_of, scale_of, spark_bars, sparkline

WIDTH, HEIGHT = SPARK


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, as WCAG 2 defines it."""
    channels = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255.0
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("ground", ["#ffffff", "#1b1b1d", "#111111"])
def test_colours_stand_out_on_light_and_dark(ground: str) -> None:
    for colour in PALETTE:
        dark, light = sorted((luminance(colour), luminance(ground)))
        assert (light + 0.05) / (dark + 0.05) >= 3.0, colour


def test_scales_are_linear_or_logarithmic() -> None:
    linear, log = Scale(0.0, 10.0, 100.0, 0.0), Scale(1e-4, 1.0, 0.0, 80.0, is_log=True)
    assert [linear.at(value) for value in (0.0, 2.5, 10.0, 20.0, -5.0)] == [100.0, 75.0, 0.0, 0.0, 100.0]
    np.testing.assert_allclose([log.at(value) for value in (1e-4, 1e-3, 1e-1, 1.0)], [0.0, 20.0, 60.0, 80.0])
    assert log.at(0.0) == log.at(-1.0) == 0.0
    assert math.isnan(log.at(math.nan))


def test_ticks_are_round_and_few() -> None:
    assert Scale(0.0, 2000.0, 0.0, 1.0).ticks() == [0.0, 500.0, 1000.0, 1500.0, 2000.0]
    np.testing.assert_allclose(Scale(0.58, 0.92, 0.0, 1.0).ticks(), [0.6, 0.7, 0.8, 0.9])
    np.testing.assert_allclose(Scale(5e-4, 2.0, 0.0, 1.0, is_log=True).ticks(), [1e-3, 1e-2, 1e-1, 1.0])
    np.testing.assert_allclose(Scale(1e-12, 1.0, 0.0, 1.0, is_log=True).ticks(), [1e-12, 1e-9, 1e-6, 1e-3, 1.0])
    np.testing.assert_allclose(Scale(0.2, 0.9, 0.0, 1.0, is_log=True).ticks(), [0.2, 0.4, 0.6, 0.8])


@example(values=[5e-324], is_log=True)
@example(values=[5e-324], is_log=False)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=6), st.booleans())
def test_every_finite_value_has_a_place(values: list[float], is_log: bool) -> None:
    finite = [value for value in values if math.isfinite(value) and abs(value) < 1e300]
    scale = scale_of(finite, 0.0, 100.0, is_log=is_log)
    assert all(0.0 <= scale.at(value) <= 100.0 for value in finite)
    ordered = sorted(finite)
    places = [scale.at(value) for value in ordered]
    assert places == sorted(places)
    assert all(scale.lowest * (1.0 - 1e-9) <= tick for tick in scale.ticks() if is_log)


def test_what_is_not_positive_has_room_below_the_others() -> None:
    with_zero, without = (scale_of([*more, 0.1, 1.0], 0.0, 100.0, is_log=True) for more in ([0.0], []))
    assert with_zero.lowest == pytest.approx(0.1 / 3.0)
    assert without.lowest == pytest.approx(0.1 / 1.25)
    assert with_zero.at(0.0) == 0.0 < with_zero.at(0.1)
    narrow = scale_of([2.0, 3.0], 0.0, 100.0, is_log=True)
    assert narrow.highest == pytest.approx(10.0 * narrow.lowest)
    assert narrow.at(2.0) > 35.0
    assert narrow.at(3.0) < 65.0
    assert scale_of([5e-324], 0.0, 1.0, is_log=True).lowest > 0.0


def test_a_path_has_gaps() -> None:
    nan = math.nan
    path = path_of([(0, nan), (1, 2), (2, 3.456), (3, nan), (4, 5)])
    assert points(path) == [[(1.0, 2.0), (2.0, 3.46)], [(4.0, 5.0)]]
    assert path_of([]) == ""


def test_a_sparkline_holds_its_values() -> None:
    values = [1.0, 0.1, 0.0, math.nan, 1e-3]
    svg = tree(sparkline(values, "a < b", is_log=True))[0]
    assert svg.tag == "svg"
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == svg.findtext("title") == "a < b"
    drawn = [point for line in points(str(svg.find("path").get("d"))) for point in line]  # type: ignore[union-attr]
    np.testing.assert_allclose([x for x, _ in drawn], np.delete(np.linspace(MARGIN, WIDTH - MARGIN, 5), 3), atol=5e-3)
    low, high = 1e-3 / 3.0, 1.1
    shares = np.log(np.array([1.0, 0.1, low, 1e-3]) / low) / np.log(high / low)
    heights = HEIGHT - MARGIN - shares * (HEIGHT - 2 * MARGIN)
    np.testing.assert_allclose([y for _, y in drawn], heights, atol=5e-3)
    circle = svg.find("circle")
    assert circle is not None
    assert (float(str(circle.get("cx"))), float(str(circle.get("cy")))) == drawn[-1]


@pytest.mark.parametrize("values", [[], [math.nan], [0.0], [2.0, 2.0], [1e308, -1e308]])
@pytest.mark.parametrize("is_log", [False, True])
def test_odd_values_can_be_drawn(values: list[float], is_log: bool) -> None:
    for markup in (sparkline(values, "odd", is_log=is_log), spark_bars([abs(value) for value in values], "odd", ())):
        assert "nan" not in markup
        assert "inf" not in markup
        assert tree(markup)[0].tag == "svg"


def test_bars_are_as_high_as_their_values() -> None:
    svg = tree(spark_bars([4.0, 2.0, math.nan, 1.0], "bars", {0, 1}))[0]
    bars = svg.findall("rect")
    np.testing.assert_allclose([float(str(bar.get("height"))) for bar in bars], [28.0, 14.0, 7.0])
    assert all(float(str(bar.get("y"))) + float(str(bar.get("height"))) == HEIGHT - MARGIN for bar in bars)
    assert [bar.get("fill") for bar in bars] == [PALETTE[0], PALETTE[0], "currentColor"]
    assert float(str(bars[2].get("x"))) - MARGIN == 3 * (float(str(bars[1].get("x"))) - MARGIN)
