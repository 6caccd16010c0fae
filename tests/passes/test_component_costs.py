from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.passes import component_costs as module
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.chunk_sizes import fixed_bytes
from nrc_fast.passes.component_costs import component_costs
from nrc_fast.passes.memory_needs import gram_memory


def costs_of(H: Any, k: int, memory: int | None = None) -> module.ComponentCosts:
    return component_costs(begin_reading(H).source, k, memory)


def wide(rows: int, d: int) -> Any:
    """Rows that take no memory, as none is read."""
    return np.broadcast_to(np.float32(0.0), (rows, d))


def test_both_ways_are_counted_as_they_are_written() -> None:
    found = costs_of(wide(1000, 2000), 3)
    products = 1000 * 2000 * 2 * (3 + 7) * 2 / 0.6  # of each row with 10 vectors and back, in float64
    assert found.product == pytest.approx(products)
    assert found.rows == pytest.approx(6 * products)
    # Half of the products, ten of the matrix with 10 vectors (memory is the limit), ten copies, and a refinement.
    assert found.gram == pytest.approx(1000 * 2000 * 1000 / 0.7 + 2000**2 * (10 * 40 + 10 * 40) + products)
    double = component_costs(begin_reading(wide(1000, 2000).astype(np.float64)).source, 3)
    assert double.gram == pytest.approx(2 * 1000 * 2000 * 1000 / 0.7 + 2000**2 * 800)


def test_narrow_features_take_the_gram_and_wide_ones_the_rows() -> None:
    assert not costs_of(wide(400_000, 256), 3).prefers_rows
    assert costs_of(wide(20_000, 4096), 3).prefers_rows
    assert not costs_of(wide(20_000, 4096), 400).prefers_rows  # many components
    assert not costs_of(wide(2, 119), 3).prefers_rows  # all eigenvectors of so few cost nothing
    assert costs_of(wide(2, 120), 3).prefers_rows
    assert costs_of(wide(1000, 100_000), 400).prefers_rows  # no matrix fits


def test_reading_from_disk_is_dear(tmp_path: Path) -> None:
    np.save(tmp_path / "H.npy", np.zeros((100, 700), np.float32))
    stored = component_costs(begin_reading(tmp_path / "H.npy").source, 3)
    assert stored.product == pytest.approx(100 * 700 * 4 * 50.0)
    assert stored.product > costs_of(wide(100, 700), 3).product


def test_batches_that_are_made_anew_are_read_as_seldom_as_can_be() -> None:
    batches = [np.zeros((500, 4096), np.float32)] * 40
    assert not component_costs(begin_reading(batches).source, 3).prefers_rows
    assert costs_of(wide(20_000, 4096), 3).prefers_rows


def test_a_limit_of_memory_rules_out_the_gram() -> None:
    least = gram_memory(begin_reading(wide(400_000, 256)).source)
    assert least > 8 * 8 * 256**2
    found = costs_of(wide(400_000, 256), 3, memory=least - 1)
    assert not found.gram_fits
    assert found.prefers_rows
    assert found.is_worth(1e9)
    allowed = costs_of(wide(400_000, 256), 3, memory=least)
    assert allowed.gram_fits
    assert allowed.is_worth(1.0)
    assert not allowed.is_worth(1e9)


def test_memory_is_planned_for_the_way_that_is_taken() -> None:
    source = begin_reading(wide(1000, 4000)).source
    assert fixed_bytes(source, components=3) == fixed_bytes(source) == gram_memory(source)  # which may be gone over to
    rows = fixed_bytes(source, memory=200 << 20, components=3)
    assert gram_memory(source) - rows > 7 * 8 * 4000**2
    with pytest.raises(ValueError, match="need at least"):
        begin_reading(wide(1000, 4000), memory="200MiB")
    assert begin_reading(wide(1000, 4000), memory="200MiB", components=3).memory == 200 << 20


def test_a_plan_tells_which_way_and_what_both_cost() -> None:
    narrow, broad = str(nrc.plan(wide(400_000, 256), n=3)), str(nrc.plan(wide(20_000, 4096), n=3))
    assert "3 components alone (nrc1): Gram and partial decomposition, " in narrow
    assert "; not block Krylov on the rows, " in narrow
    assert "3 components alone (nrc1): block Krylov on the rows, " in broad
    assert f"{costs_of(wide(20_000, 4096), 3).rows:.1e} multiply-adds" in broad
