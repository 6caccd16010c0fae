"""How a reading begins: what users call features and targets as a source, its chunks, its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

import numpy as np

from nrc_fast.base.files import require_writable
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.options import parse_memory, require_nonfinite
from nrc_fast.base.outputs import require_apart
from nrc_fast.base.processes import Team
from nrc_fast.kernels.devices import Device, ordered_backend
from nrc_fast.kernels.interface import Backend
from nrc_fast.passes.checkpoint import Checkpoint
from nrc_fast.passes.chunk_sizes import rows_of_chunk
from nrc_fast.passes.reading import Reading
from nrc_fast.sources import NoBatchesError, Source, as_source
from nrc_fast.sources.dispatch import Features, Targets
from nrc_fast.sources.placed import placed_source

__all__ = ["begin_reading"]

Result = TypeVar("Result")


def begin_reading(
    features: Features,
    targets: Targets | None = None,
    *,
    device: Device | None = None,
    nonfinite: str = "raise",
    memory: str | int | None = None,
    chunk_rows: int | None = None,
    progress: bool | None = None,
    team: Team | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    identity: Mapping[str, JSONValue] | None = None,
    components: int | None = None,
    statistics: str | Path | None = None,
) -> Reading:
    """What users give as features and targets, ready for passes.

    Parameters
    ----------
    features : Source, path or glob pattern, array, tensor, or iterable of batches
    targets : path or glob pattern, array or tensor, optional
    device : str or torch.device, optional
        Where to compute; where the features lie if None.
    nonfinite : {"raise", "skip"}
    memory : str or int, optional
        What chunks and sums may take, such as "2GiB".
    chunk_rows : int, optional
    progress : bool, optional
        Whether a bar is shown; if None, where the standard error is a terminal.
    team : Team, optional
        Other processes that hold the other rows.
    checkpoint : path, optional
        File that the passes are kept in.
    checkpoint_every : float
        Seconds between two writes of it.
    identity : mapping to JSON values, optional
        What is measured, besides the source; goes into the checkpoint.
    components : int, optional
        How many leading components are wanted, if nothing else of the moments is: their memory may not be needed.
    statistics : path, optional
        File that the sums will be written to.

    Raises
    ------
    TypeError, ValueError, OSError
        What is given is not understood, has no rows, or does not fit the memory or the checkpoint, or a file would be
        written over one that is read.
    RuntimeError
        The device cannot be used, or is not the one that the features lie on.
    """
    together = _alone if team is None else team.together
    path = None if checkpoint is None else _own_path(Path(checkpoint), team)
    outputs: dict[str, str | Path | None] = {"checkpoint": path, "save_statistics": statistics}
    require_nonfinite(nonfinite)
    ordered = together(lambda: _prepared(device, outputs))
    if team is None:
        source = as_source(features, targets)
        require_apart(outputs, source.files)
        if source.count == 0:
            msg = f"{source.name} has shape (0, {source.d}): no samples to measure"
            raise ValueError(msg)
        rereadable, is_double = source.rereadable, source.dtype == "float64"
    else:
        source, rereadable, is_double = _agreed_source(features, targets, team, outputs)

    def begun() -> Reading:
        placed = source if ordered is None else placed_source(source, ordered)
        limit = parse_memory(memory)
        rows = rows_of_chunk(placed, limit, nonfinite, chunk_rows, components=components)
        saved = None
        if path is not None:
            facts: dict[str, JSONValue] = {
                "source": placed.fingerprint(),
                "chunk rows": rows,
                "nonfinite": nonfinite,
                "process": [0, 1] if team is None else [team.rank, team.size],
            }
            saved = begun_checkpoints.enter_context(
                closing(Checkpoint(path, facts | dict(identity or {}), checkpoint_every))
            )
        return Reading(placed, rows, nonfinite=nonfinite, team=team, checkpoint=saved, progress=progress, memory=limit)

    with ExitStack() as begun_checkpoints:  # where this or another process fails, nobody else shall wait for it
        reading = together(begun)
        begun_checkpoints.pop_all()
    reading.rereadable, reading.is_double = rereadable, is_double
    return reading


def _alone(work: Callable[[], Result]) -> Result:
    return work()


def _prepared(device: Device | None, outputs: Mapping[str, str | Path | None]) -> Backend | None:
    """The device that was ordered; what can be seen to fail now fails before anything is read."""
    ordered = None if device is None else ordered_backend(device)
    for output in outputs.values():
        if output is not None:
            require_writable(Path(output))
    return ordered


def _own_path(path: Path, team: Team | None) -> Path:
    """The checkpoint of this process: each has its own."""
    return path if team is None or team.size == 1 else path.with_name(f"{path.stem}.{team.rank}{path.suffix}")


def _agreed_source(
    features: Features, targets: Targets | None, team: Team, outputs: Mapping[str, str | Path | None]
) -> tuple[Source, bool, bool]:
    """The source of this process, whether those of all can be read again, and whether all are float64.

    Every process enters, whatever became of its own source; what one raises, all raise.

    Raises
    ------
    TypeError, ValueError, OSError
        What is given is not understood, no process has rows, or they differ in their numbers of features and targets.
    """
    source, failure = None, None
    try:
        source = as_source(features, targets)
        require_apart(outputs, source.files)
    except NoBatchesError:
        pass  # a process may well have no rows, and the others know how wide they are
    except Exception as error:
        failure = error
    team.require_success(failure)
    has_rows = source is not None and source.count != 0
    facts = [0.0] * 5
    if source is not None:
        facts = [1.0, source.d, source.n_targets, source.rereadable, source.dtype == "float64" or not has_rows]
    table = team.gather(facts)
    known = table[table[:, 0] > 0.0]
    if len(known) == 0:
        msg = "no process of the group has rows; there is nothing to measure"
        raise ValueError(msg)
    if (known[:, 1:3] != known[0, 1:3]).any():
        listed = ", ".join(f"process {rank}: {row[1]:.0f} and {row[2]:.0f}" for rank, row in enumerate(table) if row[0])
        msg = f"the processes have different numbers of features and targets ({listed})"
        raise ValueError(msg)
    if source is None:
        d, n_targets = int(known[0, 1]), int(known[0, 2])
        source = as_source(np.empty((0, d)), np.empty((0, n_targets)) if n_targets else None)
    return source, bool(known[:, 3].all()), bool(known[:, 4].all())
