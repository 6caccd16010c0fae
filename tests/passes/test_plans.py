"""The plan is what is done, and making it reads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.drawings import cells, tree
from support.streams import draw, generated

import nrc_fast as nrc
from nrc_fast.base.options import format_bytes
from nrc_fast.passes import precisions

CONVENTIONS = list(nrc.CONVENTIONS)


@pytest.mark.parametrize("few", [precisions.SMALL, 0.0])
def test_the_plan_is_what_is_done(few: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "SMALL", few)
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 16))
    spread, collapsed = draw(14, 3000, 16, 2)[0], rng.standard_normal((3000, 2)) @ W
    Y = rng.standard_normal((3000, 2))
    done: list[str] = []
    run = nrc.passes.reading.Reading.run

    def noted(self: Any, title: str, sums: Any) -> None:
        done.append(title)
        run(self, title, sums)

    monkeypatch.setattr(nrc.passes.reading.Reading, "run", noted)
    for H in (spread, spread.astype(np.float32), collapsed.astype(np.float32)):
        for convention in CONVENTIONS:
            for given in ({}, {"Y": Y, "b": np.zeros(2)}):
                done.clear()
                plan = nrc.plan(H, W=W, convention=convention, **given)
                nrc.measure(H, W=W, convention=convention, **given)
                certain = [title for title, when in plan.passes if when.startswith("always")]
                assert [title for title in done if title in certain or title not in dict(plan.passes)][: len(certain)]
                assert set(certain) <= set(done) <= {title for title, _ in plan.passes}
                assert len(done) <= len(plan.passes)
    np.save(tmp_path / "H.npy", spread)
    plan = nrc.plan(tmp_path / "H.npy", n=2)
    assert (plan.rows, plan.bytes_per_pass) == (3000, spread.nbytes)
    assert "rows 3,000, 375.0 KiB in a pass" in str(plan)
    done.clear()
    plan = nrc.plan(nrc.open(generated(spread, None, 100)), n=2)
    assert [title for title, _ in plan.passes] == ["statistics"]
    assert plan.rows is None
    assert "rows unknown" in str(plan)


def test_looking_at_a_generator_takes_nothing_from_it() -> None:
    H, _, _ = draw(23, 300, 4, 2)
    with pytest.raises(TypeError, match="open it"):
        nrc.plan(generated(H, None, 50), n=1)
    source = nrc.open(generated(H, None, 50))
    nrc.plan(source, n=1)
    assert nrc.measure(source, n=1).samples == 300


@pytest.mark.parametrize(("rows", "count"), [(500, "2"), (400_000, "2 to ")])
def test_a_notebook_shows_every_pass(tmp_path: Path, rows: int, count: str) -> None:
    shape = np.lib.format.open_memmap(tmp_path / "<H>.npy", mode="w+", dtype=np.float32, shape=(rows, 256)).shape
    plan = nrc.plan(tmp_path / "<H>.npy", n=2)
    text = plan._repr_html_()
    *table, _ = cells(text)
    assert table == [["pass", "when"], *(list(entry) for entry in plan.passes)]
    bars = list(tree(text).iter("rect"))
    always = [when.startswith("always") for _, when in plan.passes]
    assert [bar.get("fill") != "currentColor" for bar in bars] == always
    assert sum(always) == 2
    assert "&lt;H&gt;.npy" in text
    words = "".join(tree(text).itertext())
    count += "" if all(always) else str(len(always))
    assert f"{count} passes of {format_bytes(shape[0] * 1024)}, in" in words
    assert plan.components in words
