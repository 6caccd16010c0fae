"""What a terminal is shown: lines that fit, no broken number, weight and colour where they are wanted."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from support.terminals import Terminal

import nrc_fast as nrc
from nrc_fast.cli import main
from nrc_fast.cli.terminal import fitting, write_styled

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def report() -> nrc.Report:
    rng = np.random.default_rng(0)
    H, Y, W = rng.standard_normal((500, 8)), rng.standard_normal((500, 2)), rng.standard_normal((2, 8))
    return nrc.measure(H, Y, W, np.zeros(2))


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_lines_fit_and_keep_every_word(width: int) -> None:
    text = str(report())
    lines = fitting(text, width).split("\n")
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    assert max(map(len, lines)) <= width
    for value in re.findall(r"\S+ +\+- \S+", text):
        assert any(value in line for line in lines), "a value without its bound"
    assert fitting(text, max(map(len, text.split("\n")))) == text


def test_lines_go_on_below_what_they_tell() -> None:
    assert fitting("  MSE of the best affine readout    0.061, 0.062, 0.063", 48).split("\n") == [
        "  MSE of the best affine readout    0.061,",
        "                                    0.062, 0.063",
    ]
    assert fitting("note: with 500 samples of 8 features there is little to say", 44).split("\n") == [
        "note: with 500 samples of 8 features there",
        "      is little to say",
    ]
    assert fitting("  the UFM at c = 0.25 predicts    rank 2, MSE 0.5", 46).split("\n") == [
        "  the UFM at c = 0.25 predicts    rank 2,",
        "                                  MSE 0.5",
    ]
    # What is longer than a line is not broken: a path can be copied.
    assert "/a" * 60 in fitting(f"read from {'/a' * 60} today", 50)


@pytest.mark.usefixtures("colours")
def test_weight_and_colour() -> None:
    pytest.importorskip("rich")
    terminal, text = Terminal(), str(report())
    write_styled(text, terminal)
    shown = terminal.getvalue()
    assert ESCAPES.sub("", shown) == fitting(text, 80) + "\n"
    title = text.split("\n", maxsplit=1)[0].split(",", maxsplit=1)[0]
    assert shown.startswith(f"\x1b[1m{title}")
    value, bound = re.search(r"(\S+)  (\+- \S+)", text).groups()  # type: ignore[union-attr]
    assert f"\x1b[1m{value}\x1b[0m" in shown
    assert f"\x1b[2m{bound}\x1b[0m" in shown


@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize("wish", ["NO_COLOR", "TERM", "no rich"])
def test_plain_text_where_it_is_wished(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if wish == "no rich":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    else:
        monkeypatch.setenv(wish, "dumb")
    terminal = Terminal()
    write_styled("title\n[bold]a[/bold]  1.0  +- 0.1", terminal)
    assert terminal.getvalue() == "title\n[bold]a[/bold]  1.0  +- 0.1\n"


@pytest.mark.usefixtures("colours")
def test_names_are_no_markup() -> None:
    pytest.importorskip("rich")
    terminal = Terminal()
    write_styled("title\n[red]a[/red] :smile:", terminal)
    assert ESCAPES.sub("", terminal.getvalue()) == "title\n[red]a[/red] :smile:\n"


@pytest.mark.usefixtures("colours")
def test_commands_style_results_and_no_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    np.save(tmp_path / "h.npy", np.random.default_rng(0).standard_normal((40, 3)))
    command = ["measure", str(tmp_path / "h.npy"), "-n", "2", "--no-progress"]

    def shown(*more: str) -> str:
        monkeypatch.setattr(sys, "stdout", Terminal())
        assert main([*command, *more]) == 0
        return sys.stdout.getvalue()  # type: ignore[attr-defined, no-any-return]

    styled = shown()
    assert ESCAPES.search(styled)
    assert max(map(len, ESCAPES.sub("", styled).split("\n"))) <= 80
    assert ESCAPES.search(shown("--plan"))
    for machine in (shown("--json"), shown("--plan", "--json")):
        assert not ESCAPES.search(machine)
