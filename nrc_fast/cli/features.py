"""The commands ``nrc-fast measure`` and ``merge``, and showing a report."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TypedDict

from nrc_fast.base.options import ByK
from nrc_fast.cli.groups import add_group_options, started_team
from nrc_fast.cli.inputs import Commands, load_matrix, one_or_many
from nrc_fast.cli.outputs import require_outputs_apart
from nrc_fast.cli.printing import say, show
from nrc_fast.kernels.interface import Rows
from nrc_fast.measurement.all_metrics import measure, plan
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.metrics.conventions import CONVENTIONS, ConventionName
from nrc_fast.reports.features import Report
from nrc_fast.reports.pages import write_page
from nrc_fast.sources import open_source

__all__ = ["add_measure", "add_merge"]


def add_measure(commands: Commands) -> None:
    """Add ``measure`` to the commands."""
    command = commands.add_parser(
        "measure",
        help="measure stored features",
        description="Measure features in .npy, .npz, .pt, .safetensors, HDF5, zarr or parquet files. Under torchrun "
        "the rows are shared out over the processes, unless --alone says that this one was started by one of them.",
    )
    command.set_defaults(run=_measure)
    command.add_argument(
        "features",
        nargs="+",
        help="features (N, d): files or a glob pattern, quoted or not, in natural order (h_2 before h_10)",
    )
    command.add_argument("--targets", nargs="+", help="targets (N, n): files or a glob pattern")
    command.add_argument("--key", help="name of the features inside the files")
    command.add_argument("--target-key", help="name of the targets inside the files")
    command.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare the checksums of .npz and .pt files before they are read, default: --verify",
    )
    command.add_argument(
        "--nonfinite",
        default="raise",
        choices=["raise", "skip"],
        help="rows with NaN or infinite values, default: raise",
    )
    command.add_argument(
        "--precision", default="high", choices=["high", "highest", "fast"], help="of the products, default: high"
    )
    command.add_argument("--device", help="cuda, cuda:1 or cpu; under torchrun cuda is that of the local rank")
    command.add_argument("--memory", default=None, help="bound of what is used beyond the start, such as 2GiB")
    command.add_argument("--chunk-rows", type=int, help="rows that are read at a time, default: about 64 MiB of them")
    command.add_argument("--checkpoint", type=Path, help="keep the state in this file; an existing one is resumed")
    command.add_argument(
        "--checkpoint-every", type=float, default=60.0, metavar="SECONDS", help="how often it is written, default: 60"
    )
    command.add_argument("--save-stats", type=Path, help="also write the statistics, for nrc-fast merge")
    command.add_argument("--plan", action="store_true", help="only say what would be read, and the memory for it")
    command.add_argument("--verbose", action="store_true", help="say it and then read")
    command.add_argument("--no-progress", action="store_true", help="no bar, on a terminal either")
    add_group_options(command)
    _add_head(command)


def add_merge(commands: Commands) -> None:
    """Add ``merge`` to the commands."""
    command = commands.add_parser("merge", help="add up statistics that were saved with --save-stats")
    command.set_defaults(run=_merge)
    command.add_argument("parts", nargs="+", type=Path, help="files of statistics (.npz)")
    command.add_argument("--save-stats", type=Path, help="write the sum to this file")
    _add_head(command)


def _add_head(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", help="weights of the last layer, (n, d): a file, also a checkpoint (.ckpt)")
    command.add_argument("--weights-key", help="their name inside the file, such as state_dict.fc.weight")
    command.add_argument("--bias", help="bias of the last layer, (n,)")
    command.add_argument("--bias-key", help="its name inside the file")
    command.add_argument("-n", type=int, help="number of components, where neither targets nor weights are given")
    command.add_argument(
        "--convention", default="nrc24", choices=list(CONVENTIONS), help="definition of NRC1 and NRC2, default: nrc24"
    )
    command.add_argument(
        "--by-k", default="leading", choices=["leading", "all"], help="NRC1 for which k; default: leading"
    )
    command.add_argument(
        "--spectrum", default="auto", choices=["auto", "full"], help="full: all eigenvalues at any width"
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.add_argument("--plot", type=Path, help="also draw the report to this file")
    command.add_argument("--html", type=Path, help="also write the report with its plot as one HTML page")


class _Head(TypedDict):
    W: Rows | None
    b: Rows | None
    n: int | None
    convention: ConventionName
    by_k: ByK


def _head(options: argparse.Namespace, n_targets: int) -> _Head:
    """Weights, bias, n, convention and numbers of components, as `measure` and `FeatureStatistics.report` take them."""
    if options.weights is None and options.n is None and not n_targets:
        targets = "--targets, " if hasattr(options, "targets") else ""
        msg = f"n is not known: give {targets}--weights or -n, the number of target dimensions"
        raise ValueError(msg)
    if options.bias is not None and options.weights is None:
        msg = "--bias was given without --weights; the prediction W h + b needs both"
        raise ValueError(msg)
    for given, key in (("weights", options.weights_key), ("bias", options.bias_key)):
        if key is not None and getattr(options, given) is None:
            msg = f"--{given}-key {key} was given without --{given}, the file that holds it"
            raise ValueError(msg)
    weights = None if options.weights is None else _load_part(options, "weights", role="H")
    bias = None if options.bias is None else _load_part(options, "bias", role="Y")
    return {"W": weights, "b": bias, "n": options.n, "convention": options.convention, "by_k": options.by_k}


def _load_part(options: argparse.Namespace, part: str, role: str) -> Rows:
    """Weights or bias, from the options of that name."""
    path, argument = getattr(options, part), f"{part}_key"
    return load_matrix(path, getattr(options, argument), role=role, noun=part, argument=argument)


def _measure(options: argparse.Namespace) -> None:
    source = open_source(
        one_or_many(options.features),
        None if options.targets is None else one_or_many(options.targets),
        key=options.key,
        target_key=options.target_key,
        verify=options.verify,
    )
    require_outputs_apart(options, source.files)
    head = _head(options, source.n_targets)
    reading = {name: getattr(options, name) for name in ("precision", "nonfinite", "memory", "chunk_rows")}
    reading["device"] = _device(options.device)
    with started_team(options) as team:
        if team is not None:
            source = source.share(team.rank, team.size)
        speaks = team is None or team.rank == 0
        if speaks and (options.plan or options.verbose):
            planned = plan(source, **head, **reading)
            if options.json and options.plan:
                say(json.dumps(planned.to_dict(), indent=2))
            else:
                show(planned, file=sys.stdout if options.plan else sys.stderr)
        if options.plan:
            return
        report = measure(
            source,
            **head,
            **reading,
            spectrum=options.spectrum,
            progress=None if speaks and not options.no_progress else False,
            checkpoint=options.checkpoint,
            checkpoint_every=options.checkpoint_every,
            save_statistics=options.save_stats,
            group=None if team is None else team.group,
        )
        if speaks:
            _show(report, options)


def _device(name: str | None) -> str | None:
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and "LOCAL_RANK" in os.environ else name


def _merge(options: argparse.Namespace) -> None:
    first, *others = options.parts
    total = FeatureStatistics.load(first)
    for path in others:
        try:
            total += FeatureStatistics.load(path)
        except ValueError as error:
            msg = f"{path} does not fit {first}: {error}"
            raise ValueError(msg) from error
    if options.save_stats is not None:
        total.save(options.save_stats)
    if options.save_stats is not None and not total.n_targets and options.weights is None and options.n is None:
        facts = {"parts": len(options.parts), "samples": total.count, "d": total.d}
        text = f"{len(options.parts)} parts, {total.count:,} rows of {total.d} features"
        print(json.dumps(facts) if options.json else text)
        return
    _show(total.report(**_head(options, total.n_targets), spectrum=options.spectrum), options)


def _show(report: Report, options: argparse.Namespace) -> None:
    if options.json:
        say(report.to_json())
    else:
        show(report)
    if options.plot is not None:
        report.plot(path=options.plot)
    if options.html is not None:
        write_page(options.html, [("Report", report)])
