"""The command line: ``nrc-fast measure``, ``ufm``, ``demo`` and ``env``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nrc_fast import __version__, diagnostics, ufm
from nrc_fast.conventions import CONVENTIONS
from nrc_fast.measurement import measure

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 after an error that was printed to stderr."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        print(f"nrc-fast: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nrc-fast", description="Neural regression collapse of stored features.")
    parser.add_argument("--version", action="version", version=f"nrc-fast {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("measure", help="measure features stored in .npy files")
    command.set_defaults(run=_measure)
    command.add_argument("features", type=Path, help="features, (N, d)")
    command.add_argument("--targets", type=Path, help="targets, (N, n)")
    command.add_argument("--weights", type=Path, help="weights of the last layer, (n, d)")
    command.add_argument("--bias", type=Path, help="bias of the last layer, (n,)")
    command.add_argument("-n", type=int, help="number of components, where neither targets nor weights are given")
    command.add_argument("--convention", default="nrc24", choices=list(CONVENTIONS), help="default: nrc24")
    command.add_argument("--precision", default="high", choices=["high", "highest", "fast"], help="default: high")
    command.add_argument("--nonfinite", default="raise", choices=["raise", "skip"], help="default: raise")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.add_argument("--plot", type=Path, help="also draw the report to this file")

    _add_ufm(commands)

    command = commands.add_parser("demo", help="train on recorded demonstrations and watch features collapse")
    command.set_defaults(run=_demo)
    command.add_argument("--quick", action="store_true", help="fewer steps, under 40 s")
    command.add_argument("--data", type=Path, help="another recording (.npz with observations and actions)")
    command.add_argument("--plot", type=Path, default=Path("collapse.png"), help="default: collapse.png")

    command = commands.add_parser("env", help="versions, instruction sets and threads, for reports of problems")
    command.set_defaults(run=_env)
    command.add_argument("--json", action="store_true", help="print as JSON")
    return parser


def _measure(options: argparse.Namespace) -> None:
    paths = (options.features, options.targets, options.weights, options.bias)
    features, targets, weights, bias = (None if path is None else load_array(path) for path in paths)
    report = measure(
        features,
        targets,
        weights,
        bias,
        n=options.n,
        convention=options.convention,
        precision=options.precision,
        nonfinite=options.nonfinite,
    )
    print(report.to_json() if options.json else report)
    if options.plot is not None:
        report.plot()[0].savefig(options.plot)


def _add_ufm(commands: Any) -> None:
    command = commands.add_parser("ufm", help="what training on stored targets will keep, and the error to expect")
    command.set_defaults(run=_ufm)
    command.add_argument("targets", type=Path, help="targets, (N, n)")
    command.add_argument("--weight-decay", type=float, help="of the last layer")
    command.add_argument("--feature-decay", type=float, help="of the features; default: so that lambda_H = lambda_W")
    command.add_argument("--c", type=float, help="lambda_W lambda_H itself, in place of the decays")
    command.add_argument("--loss", default="torch_mse", choices=list(ufm.LOSSES), help="default: torch_mse")
    command.add_argument("--samples", type=int, help="samples of one step, for losses that sum over them")
    command.add_argument("--plot", type=Path, help="also draw rank and MSE against c to this file")


def _ufm(options: argparse.Namespace) -> None:
    forecast = ufm.predict(
        load_array(options.targets),
        weight_decay=options.weight_decay,
        feature_decay=options.feature_decay,
        loss=options.loss,
        samples=options.samples,
        c=options.c,
    )
    print(forecast)
    if options.plot is not None:
        forecast.plot()[0].savefig(options.plot)


def _demo(options: argparse.Namespace) -> None:
    from nrc_fast import demo

    demo.run(quick=options.quick, data=options.data, plot=options.plot)


def _env(options: argparse.Namespace) -> None:
    facts = diagnostics.environment()
    print(json.dumps(facts, indent=2) if options.json else "\n".join(f"{name}: {facts[name]}" for name in facts))


def load_array(path: Path) -> np.ndarray[Any, Any]:
    """Map a .npy file into memory.

    Raises
    ------
    OSError
        The file is missing, or is not what its name says.
    """
    if path.suffix != ".npy":
        msg = f"{path}: only .npy files can be read; save the array with numpy.save"
        raise OSError(msg)
    if not path.is_file():
        msg = f"{path}: no such file"
        raise FileNotFoundError(msg)
    try:
        array: np.ndarray[Any, Any] = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        msg = f"{path} is not a readable .npy file ({error}); was it truncated or renamed?"
        raise OSError(msg) from error
    return array
