"""A live figure follows the records, in a notebook alone, and no failure of it ends a training or changes a bit."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from support.drawings import cells, tree, with_class

import nrc_fast as nrc

torch = pytest.importorskip("torch")


class Notebook:
    """As much of IPython as is called; each content is formatted when it is shown, as IPython does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kernel: object = "a kernel") -> None:
        self.shown: list[str] = []
        self.error: Exception | None = None
        shell = SimpleNamespace(kernel=kernel)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=self.display))

    def display(self, content: Any, *, display_id: bool) -> Any:
        assert display_id
        self.shown.append(content._repr_html_())
        return SimpleNamespace(update=self.update)

    def update(self, content: Any) -> None:
        if self.error is not None:
            raise self.error
        self.shown.append(content._repr_html_())


def train(*, shows: int = 0, steps: int = 3, **options: Any) -> tuple[nrc.Monitor, list[torch.Tensor]]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))
    X, Y = torch.randn(60, 4), torch.randn(60, 2)
    monitor = nrc.Monitor(model, [(X, Y)], **options)
    for _ in range(shows):
        monitor.show()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        monitor.step()
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()
    return monitor, [value.detach().clone() for value in model.state_dict().values()]


def test_every_record_is_shown_where_the_figure_is(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    seen: list[int] = []
    monitor, _ = train(shows=1, name="<run>", loggers=[lambda step, _: seen.append(step)])
    assert seen == [0, 1, 2]
    first, *later = notebook.shown
    assert "".join(tree(first).itertext()) == "<run> of layer 2 of a Sequential; nothing was measured yet"
    assert len(later) == 3
    for count, text in enumerate(later, start=1):
        root = tree(text)
        assert f"; {count} record" in "".join(root.itertext())
        charts = with_class(root, "chart")
        assert len(charts) == 6
        assert all(len(with_class(chart, "dot")) == count for chart in charts)
    assert ["R2", f"{monitor.records()[-1].r2:.4g}"] in [row[:2] for row in cells(later[-1])]
    assert cells(monitor._repr_html_()) == cells(later[-1])


def test_the_training_ends_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    _, plain = train()
    Notebook(monkeypatch)
    _, shown = train(shows=1)
    assert all(torch.equal(one, other) for one, other in zip(plain, shown, strict=True))


def test_a_figure_that_is_slow_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    times = iter([0.0, 2.0, 10.0, 19.9, 20.0, 20.05, 20.06, 20.07])  # two for each record that is shown, else one
    monkeypatch.setattr("nrc_fast.training.live.monotonic", lambda: next(times))
    train(shows=1, steps=5)
    shown = ["".join(tree(text).itertext()) for text in notebook.shown[1:]]
    assert [text.split(";")[1].split(",")[0] for text in shown] == [" 1 record", " 4 records", " 5 records"]


def test_a_second_place_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    train(shows=2)
    assert len(notebook.shown) == 2 + 3


def test_nothing_is_shown_outside_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch, kernel=None)
    monitor, _ = train(shows=1)
    assert notebook.shown == []
    assert len(monitor.history) == 3


def test_a_figure_that_fails_is_told_once_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    notebook = Notebook(monkeypatch)
    notebook.error = ConnectionError("the kernel is gone")
    with caplog.at_level(logging.WARNING, "nrc_fast"):
        monitor, _ = train(shows=1)
    assert len(monitor.history) == 3
    (record,) = caplog.records
    assert "the live figure of <Monitor of layer 2" in record.getMessage()
    assert record.getMessage().endswith("has stopped: the kernel is gone")
