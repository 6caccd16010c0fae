"""What commands are given and what they write: checkpoints of a network, a report, a page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.cli import main
from nrc_fast.reports.features import Report

torch = pytest.importorskip("torch")
nn = torch.nn


MODEL = """
import torch

def build():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())
    model.add_module("fc", torch.nn.Linear(8, 2))
    return model
"""


class Stored:
    """Three checkpoints of one network, the data, and what is in them."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.folder = folder
        self.X = rng.standard_normal((300, 4)).astype(np.float32)
        self.Y = (self.X[:, :2] + 0.1 * rng.standard_normal((300, 2))).astype(np.float32)
        np.savez(folder / "data.npz", inputs=self.X, targets=self.Y)
        (folder / "network.py").write_text(MODEL)
        self.models = {}
        for step, nested in ((100, None), (2, "state_dict"), (30, "model")):
            model = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
            model.add_module("fc", nn.Linear(8, 2))
            state = {f"module.{name}": value for name, value in model.state_dict().items()}
            torch.save(state if nested is None else {nested: state, "epoch": step}, folder / f"step_{step}.pt")
            self.models[step] = model
        self.options = ["--head", "fc", "--data", str(folder / "data.npz")]

    def features(self, step: int) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(self.models[step][:-1](torch.from_numpy(self.X)).double().numpy())


def sweep(stored: Stored, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    pattern = str(stored.folder / "*.pt")
    assert main(["sweep", pattern, *stored.options, *more, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def measured() -> Report:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 6))
    return nrc.measure(rng.standard_normal((200, 6)), rng.standard_normal((200, 2)), W, np.zeros(2))


class Page(HTMLParser):
    """Cells, images and unclosed tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [str(values[name]) for name in ("href", "src") if name in values and tag != "img"]
        if tag == "img":
            assert values["alt"]
            self.images.append(str(values["src"]))
        elif tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)
