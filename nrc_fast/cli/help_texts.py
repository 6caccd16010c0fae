"""Help of the commands: an example for each use, and the default of each option."""

from __future__ import annotations

import argparse

from nrc_fast.cli.inputs import Commands

__all__ = ["EXAMPLES", "add_examples"]

# What each command is used for, as one would type it.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "measure": (
        "nrc-fast measure h.npy --targets y.npy --weights model.pt --weights-key fc.weight",
        "nrc-fast measure 'h/*.npy' -n 2 --memory 2GiB --checkpoint state.npz",
        "nrc-fast measure run.npz --key h --target-key y --json > report.json",
        "nrc-fast measure h.npy --targets y.npy --html report.html",
        "nrc-fast measure 'h/*.npy' -n 2 --plan",
    ),
    "merge": (
        "nrc-fast measure h/1.npy -n 2 --save-stats part_1.npz",
        "nrc-fast measure h/2.npy -n 2 --save-stats part_2.npz",
        "nrc-fast merge part_1.npz part_2.npz -n 2",
    ),
    "sweep": (
        "nrc-fast sweep checkpoints --head fc --data data.npz",
        "nrc-fast sweep 'checkpoints/*.pt' --head fc --data data.npz --json > run.json",
    ),
    "compare": (
        "nrc-fast compare report.json run.json",
        "nrc-fast compare report.json run.json --plot runs.png --html runs.html",
    ),
    "plot": ("nrc-fast plot run.json -o run.png",),
    "report": ("nrc-fast report report.json run.json -o page.html --title 'Run 7'",),
    "selftest": ("nrc-fast selftest",),
    "ufm": (
        "nrc-fast ufm y.npy --weight-decay 5e-4",
        "nrc-fast ufm run.npz --key y --c 0.01 --plot ranks.png",
    ),
    "demo": ("nrc-fast demo --quick",),
    "env": ("nrc-fast env --json",),
    "completion": (
        "nrc-fast completion bash > ~/.local/share/bash-completion/completions/nrc-fast",
        "nrc-fast completion fish > ~/.config/fish/completions/nrc-fast.fish",
    ),
}
HEADING = "examples:"


class HelpFormatter(argparse.HelpFormatter):
    """Help that says the defaults which its texts leave out, and keeps the lines of examples."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        default = action.default
        is_said = default is None or default is argparse.SUPPRESS or isinstance(default, bool)
        if text is None or is_said or "default" in text or not action.option_strings:
            return text
        return f"{text}, default: %(default)s"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(HEADING):
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)


def add_examples(commands: Commands) -> None:
    """Give the commands that were added their examples, and the form of their help."""
    for name, command in commands.choices.items():
        command.formatter_class = HelpFormatter
        if name in EXAMPLES:
            command.epilog = "\n  ".join([HEADING, *EXAMPLES[name]])
