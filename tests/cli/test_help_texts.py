"""Help: every command has examples, which run, and every option says its default."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from nrc_fast.cli import command_line, main
from nrc_fast.cli.help_texts import EXAMPLES

# These train, check every instruction set, or write to the user's folders.
NOT_RUN = ("demo", "selftest", "completion")


def commands() -> dict[str, argparse.ArgumentParser]:
    parser = command_line.command_parser()
    (found,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def test_every_command_has_examples_that_fit() -> None:
    assert set(commands()) == set(EXAMPLES)
    assert max(len(line) for lines in EXAMPLES.values() for line in lines) <= 84


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_help_holds_examples_and_defaults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = commands()[name]
    text = command.format_help()
    assert "\nexamples:\n  " + "\n  ".join(EXAMPLES[name]) in text
    body = re.sub(r"\s+", " ", text.partition("\noptions:")[2])
    for action in command._actions:
        default = action.default
        if action.option_strings and action.dest != "help":
            assert action.help, action.dest
        if action.option_strings and default not in (None, False, argparse.SUPPRESS):
            said = {"verify": "--verify"}.get(
                action.dest, f"{default:g}" if isinstance(default, float) else str(default)
            )
            assert f"default: {said}" in body, action.dest


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples name, in the folder that they run in."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    H, Y = rng.standard_normal((60, 6)), rng.standard_normal((60, 2))
    monkeypatch.chdir(tmp_path)
    np.save("h.npy", H)
    np.save("y.npy", Y)
    np.savez("run.npz", h=H, y=Y)
    np.savez("data.npz", inputs=H, targets=Y)
    Path("h").mkdir()
    Path("checkpoints").mkdir()
    np.save("h/1.npy", H[:30])
    np.save("h/2.npy", H[30:])
    for step in (1, 2):
        state = {
            "fc.weight": torch.randn(2, 6, generator=torch.Generator().manual_seed(step)),
            "fc.bias": torch.zeros(2),
        }
        torch.save(state, f"checkpoints/{step}.pt")
    torch.save(state, "model.pt")


def run_examples(capsys: pytest.CaptureFixture[str], *, drawn: bool) -> int:
    """Run those that draw nothing, or all; returns how many ran."""
    count = 0
    for name, lines in EXAMPLES.items():
        for line in lines:
            program, *words = shlex.split(line)
            assert (program, name in words or name == "merge") == ("nrc-fast", True)
            output = words[words.index(">") + 1] if ">" in words else None
            words = words[: words.index(">")] if output else words
            draws = name in ("plot", "report") or not {"--plot", "--html"}.isdisjoint(words)
            command_line.command_parser().parse_args(words)
            if name in NOT_RUN or (draws and not drawn):
                continue
            assert main(words) == 0, (line, capsys.readouterr().err)
            printed = capsys.readouterr().out
            if output:
                Path(output).write_text(printed)
                json.loads(printed)
            count += 1
    return count


@pytest.mark.usefixtures("files")
def test_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_examples(capsys, drawn=False) >= 11


@pytest.mark.long
@pytest.mark.usefixtures("files")
def test_examples_draw(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    run_examples(capsys, drawn=True)
    assert {"report.html", "part_1.npz", "run.png", "page.html", "ranks.png"} <= {
        path.name for path in Path().iterdir()
    }
