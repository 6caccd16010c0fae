"""A training that is interrupted goes on with its history, to the same bits as one that was not."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.monitored import network, samples

import nrc_fast as nrc

torch = pytest.importorskip("torch")
nn = torch.nn


class Training:
    """A training of a model with dropout and shuffled batches, and its monitor."""

    def __init__(self, **options: Any) -> None:
        torch.manual_seed(7)
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.data = samples()
        loader = [tuple(part[rows] for part in self.data) for rows in (slice(50), slice(50, 96))]
        self.monitor = nrc.Monitor(self.model, loader, **options)
        self.step = 0

    def go_on(self, last: int, *, given: bool) -> None:
        for step in range(self.step, last):
            self.monitor.step(step) if given else self.monitor.step()
            rows = torch.randperm(96)[:40]
            self.optimizer.zero_grad()
            nn.functional.mse_loss(self.model(self.data[0][rows]), self.data[1][rows]).backward()
            self.optimizer.step()
        self.step = last

    def save(self, path: Path) -> None:
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        torch.save(parts | {"monitor": self.monitor.state_dict(), "random": torch.get_rng_state()}, path)

    def load(self, path: Path) -> None:
        parts = torch.load(path, weights_only=True)
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.monitor.load_state_dict(parts["monitor"])
        torch.set_rng_state(parts["random"])
        self.step = parts["step"]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("saved", [20, 23])  # at a step that is measured next, and at one that is not
@pytest.mark.parametrize("every", [10, "log"])
def test_an_interrupted_training_ends_with_the_same_history(
    every: int | str, saved: int, given: bool, tmp_path: Path
) -> None:
    whole = Training(every=every, loggers=tmp_path / "whole.csv")
    whole.go_on(46, given=given)

    files = [tmp_path / "run.csv", tmp_path / "run.jsonl"]
    stopped = Training(every=every, loggers=files)
    stopped.go_on(saved, given=given)
    stopped.save(tmp_path / "checkpoint.pt")
    stopped.go_on(37, given=given)  # lost, but for the lines in the files
    assert len(files[0].read_text().splitlines()) == len(stopped.monitor.history) + 1

    resumed = Training(every=every, loggers=files)
    resumed.load(tmp_path / "checkpoint.pt")
    assert [record.step for record in resumed.monitor.records()][-1] < saved
    resumed.go_on(46, given=given)
    steps = [record.step for record in resumed.monitor.records()]
    assert steps == sorted(set(steps)) == [record.step for record in whole.monitor.records()]
    assert resumed.monitor.history.to_dict() == whole.monitor.history.to_dict()
    assert resumed.monitor.report.to_dict() == whole.monitor.report.to_dict()
    assert files[0].read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert [json.loads(line)["step"] for line in files[1].read_text().splitlines()] == steps
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_same_monitor_goes_back(tmp_path: Path) -> None:
    whole, rewound = Training(every=10), Training(every=10)
    whole.go_on(46, given=True)
    torch.manual_seed(7)
    network()
    rewound.go_on(23, given=True)
    rewound.save(tmp_path / "checkpoint.pt")
    rewound.go_on(37, given=True)
    rewound.load(tmp_path / "checkpoint.pt")
    assert len(rewound.monitor.history) == 3
    rewound.go_on(46, given=True)
    assert [record.step for record in rewound.monitor.records()] == [0, 10, 20, 30, 40]


def test_states_go_through_json_and_diverged_trainings_are_told_once() -> None:
    first = Training(every="2 epochs")
    first.monitor.step()
    with torch.no_grad():
        first.model[0].weight.fill_(np.nan)
    first.monitor.end_epoch(step=5)
    with pytest.warns(UserWarning, match="step 9: 96 of 96"):
        first.monitor.end_epoch(step=9)
    state = json.loads(json.dumps(first.monitor.state_dict()))
    second = Training(every="2 epochs", name="second")
    second.monitor.load_state_dict(state)
    assert second.monitor.history.name == "second"
    expected = first.monitor.state_dict()
    np.testing.assert_equal(
        second.monitor.state_dict(), expected | {"history": expected["history"] | {"name": "second"}}
    )
    assert second.monitor.report.notes == first.monitor.report.notes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            second.model[0].weight.fill_(np.nan)
        assert second.monitor.end_epoch(step=13) is None
        assert second.monitor.end_epoch(step=17) is not None
    assert [record.step for record in second.monitor.records()] == [0, 9, 17]


def test_a_layer_that_was_found_is_kept() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            return torch.cat([self.a(x), self.b(x)], dim=1)

    model, pair = Two(), samples()
    first = nrc.Monitor(model, [pair])
    empty = first.state_dict()
    first.evaluate()
    second = nrc.Monitor(model, [pair])
    second.load_state_dict(empty)
    assert second.layer == "b"
    second.load_state_dict(first.state_dict())
    assert (first.layer, second.layer) == ("b", "b")
    second.evaluate(1)
    assert second.report.notes == first.report.notes
    assert "Name the layer" in first.report.notes[-1]


def test_what_is_no_state_of_this_monitor_is_said_and_leaves_it_as_it_was() -> None:
    model, pair = network(), samples()
    monitor = nrc.Monitor(model, [pair], layer="6")
    monitor.step()
    state = monitor.state_dict()
    before = json.dumps(state)
    for wrong, words in [
        ([state], "this is no state of a monitor; what Monitor.state_dict"),
        ({}, "this is no state of a monitor"),
        (state["history"], "this is no state of a monitor"),
        (state | {"next_step": 0.5}, r"no state of a monitor: next_step is 0\.5 \(float\); a whole number"),
        (state | {"history": {}}, "no state of a monitor: the mapping holds no history"),
        (state | {"report": []}, "no state of a monitor: "),
        (state | {"has_diverged": 2}, "no state of a monitor: has_diverged is 2"),
        ({name: value for name, value in state.items() if name != "epochs"}, "epochs are missing"),
        (state | {"layer": "4"}, "state is that of a monitor of layer 4 and this one is of 6"),
        (nrc.Monitor(model, [pair], convention="id25").state_dict(), "convention='id25' and this one has 'nrc24'"),
    ]:
        with pytest.raises(ValueError, match=words):
            monitor.load_state_dict(wrong)
        assert json.dumps(monitor.state_dict()) == before
    with pytest.raises(ValueError, match="the model has no layer '9'"):
        nrc.Monitor(model, [pair]).load_state_dict(state | {"layer": "9"})
