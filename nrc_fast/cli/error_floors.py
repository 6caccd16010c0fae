"""The command ``nrc-fast ufm``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nrc_fast import ufm
from nrc_fast.cli.inputs import Commands, load_matrix, one_or_many
from nrc_fast.cli.printing import say, show
from nrc_fast.reports.records import without_nan

__all__ = ["add_ufm"]


def add_ufm(commands: Commands) -> None:
    """Add ``ufm`` to the commands."""
    command = commands.add_parser("ufm", help="what training on stored targets will keep, and the floor of its error")
    command.set_defaults(run=_ufm)
    command.add_argument("targets", nargs="+", help="targets (N, n): files or a quoted glob pattern")
    command.add_argument("--key", help="name of the targets inside the files")
    strength = command.add_mutually_exclusive_group(required=True)
    strength.add_argument("--weight-decay", type=float, help="of the last layer")
    strength.add_argument("--c", type=float, help="lambda_W lambda_H itself, in place of the decays")
    command.add_argument("--feature-decay", type=float, help="of the features; default: so that lambda_H = lambda_W")
    command.add_argument("--layers", type=int, help="of a linear network, all with this decay, on whitened inputs")
    command.add_argument("--loss", default="torch_mse", choices=list(ufm.LOSSES), help="default: torch_mse")
    command.add_argument("--samples", type=int, help="samples of one step, for losses that sum over them")
    command.add_argument("--d", type=int, help="features; fewer than outputs hold the leading directions alone")
    command.add_argument("--json", action="store_true", help="print the floor as JSON")
    command.add_argument("--plot", type=Path, help="also draw rank and floors of the MSE against c to this file")


def _ufm(options: argparse.Namespace) -> None:
    targets = load_matrix(one_or_many(options.targets), options.key)
    floor = ufm.predict(  # type: ignore[call-overload] # rows, which arrays become
        targets,
        weight_decay=options.weight_decay,
        feature_decay=options.feature_decay,
        loss=options.loss,
        samples=options.samples,
        c=options.c,
        layers=options.layers,
        d=options.d,
    )
    if options.json:
        say(json.dumps(without_nan(floor.to_dict()), indent=2))
    else:
        show(floor)
    if options.plot is not None:
        floor.plot(path=options.plot)
