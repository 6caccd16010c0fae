"""The demonstration: train small networks on recorded torques and watch their features collapse, or not."""

from __future__ import annotations

import math
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, TextIO

import numpy as np

from nrc_fast.base.arrays import FloatArray, SingleArray
from nrc_fast.base.libraries import require_library
from nrc_fast.cli.demo.laws import LAWS, laws_table
from nrc_fast.cli.demo.settings import BATCH, MOMENTUM, SETTINGS, WIDTH, RunResult, Setting
from nrc_fast.cli.demo.text import findings, header, history_table, item, summary_table
from nrc_fast.reports.comparisons import compare
from nrc_fast.reports.plots.panels import save_figure
from nrc_fast.training.monitor import Monitor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor
    from torch.nn import Linear, Module
    from torch.optim import Optimizer
    from tqdm import tqdm

__all__ = ["run"]

STEPS, CHECKPOINTS = 5000, 32
QUICK_STEPS, QUICK_CHECKPOINTS = 1250, 16
SEED = 0


def run(
    *,
    quick: bool = False,
    data: Path | None = None,
    plot: Path | None = Path("collapse.png"),
    progress: bool | None = None,
    out: TextIO | None = None,
) -> list[RunResult]:
    """Train networks on recorded torques, measure NRC1 to NRC3 on the way and say what is seen.

    Parameters
    ----------
    quick : bool
        A quarter of the steps.
    data : Path, optional
        An .npz file with ``observations`` (N, inputs) and ``actions`` (N, n). The recording that comes with the
        package if not given.
    plot : Path, optional
        Where the curves are drawn; None for no plot.
    progress : bool, optional
        Show a progress bar on stderr. None: only on a terminal.
    out : text stream, optional
        Where the tables are printed; stdout if not given.

    Returns
    -------
    list of RunResult
        One for each of `SETTINGS`, the same on every call. No random state but its own is used.

    Raises
    ------
    ImportError
        torch, tqdm or matplotlib is not installed.
    FileNotFoundError
        The data, or the folder of the plot, is not there.
    ValueError
        The data has no usable ``observations`` and ``actions``.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 4: the network, and that collapse needs weight decay.
    """
    torch, tqdm = _require("torch"), _require("tqdm")
    if plot is not None:
        _require("matplotlib")
        _check_folder(Path(plot))
    out = sys.stdout if out is None else out
    path = _find_data(data)
    observations, actions, about = _load(path)
    inputs, targets = _standardised(observations), _standardised(actions)
    steps, checkpoints = (QUICK_STEPS, QUICK_CHECKPOINTS) if quick else (STEPS, CHECKPOINTS)
    marks = sorted({round(float(step)) for step in np.linspace(0, steps, checkpoints + 1)})
    print(header(path=path, about=about, inputs=inputs, actions=actions, steps=steps, settings=SETTINGS), file=out)
    results = []
    disable = None if progress is None else not progress
    with _one_thread(torch), tqdm.tqdm(total=steps * len(SETTINGS), unit=" steps", disable=disable) as bar:
        for setting in SETTINGS:
            bar.set_description(setting.name)
            results.append(_train(torch=torch, setting=setting, inputs=inputs, targets=targets, marks=marks, bar=bar))
            bar.clear()
            print(f"\n{history_table(results[-1])}", file=out, flush=True)
    print(f"\n{summary_table(results)}\n\n{laws_table(results)}\n", file=out)
    for law in LAWS:
        print(item(law), file=out)
    print(file=out)
    for finding in findings(results):
        print(item(finding), file=out)
    if plot is not None:
        save_figure(_plot(results), plot)
        print(f"\nThe curves are in {plot}.", file=out)
    return results


def _require(name: str) -> ModuleType:
    return require_library(name, "demo", f"the demonstration needs {name}")


def _plot(results: Sequence[RunResult]) -> Figure:
    # Without known penalties the prediction follows from gamma, and is no prediction.
    known = [result for result in results if not math.isnan(result.c)]
    predicted = {result.name: result.report.ufm.mse for result in known if result.report.ufm is not None}
    return compare({result.name: result.recorded for result in results}).plot(predicted=predicted)


# ---- data ----


def _find_data(data: Path | None) -> Path:
    package = Path(__file__).resolve().parents[2]
    source_tree = package.parent / "bench" / "data" / "reacher.npz"
    paths = [package / "data" / "reacher.npz", source_tree] if data is None else [Path(data)]
    for path in paths:
        if path.is_file():
            return path
    msg = f"the recording was not found; looked at {', '.join(str(path) for path in paths)}"
    raise FileNotFoundError(msg)


def _check_folder(plot: Path) -> None:
    if not plot.absolute().parent.is_dir():
        msg = f"the folder of the plot, {plot.absolute().parent}, does not exist"
        raise FileNotFoundError(msg)


def _load(path: Path) -> tuple[FloatArray, FloatArray, str]:
    if not zipfile.is_zipfile(path):
        msg = f"{path} is no .npz file; one with observations and actions is expected"
        raise ValueError(msg)
    with np.load(path, allow_pickle=False) as file:
        missing = {"observations", "actions"} - set(file.files)
        if missing:
            msg = f"{path} has no array {' and no '.join(sorted(missing))}; it has {', '.join(file.files)}"
            raise ValueError(msg)
        observations, actions = (np.asarray(file[name], dtype=np.float64) for name in ("observations", "actions"))
        about = str(file["about"]) if "about" in file.files else ""
    if observations.ndim != 2 or actions.ndim != 2 or len(observations) != len(actions) or not actions.size:
        msg = (
            f"observations {observations.shape} and actions {actions.shape} are no matrices with a row for each sample"
        )
        raise ValueError(msg)
    if not (np.isfinite(observations).all() and np.isfinite(actions).all()):
        msg = f"{path} holds NaN or infinite values"
        raise ValueError(msg)
    return observations, actions, about


def _standardised(rows: FloatArray) -> SingleArray:
    """Columns with mean 0 and variance 1, as float32; a column that is constant but for rounding becomes 0."""
    deviations = rows - rows.mean(axis=0)
    scale = deviations.std(axis=0)
    varies = scale > 1e-12 * np.abs(rows).max(axis=0)
    return np.where(varies, deviations / np.where(varies, scale, 1.0), 0.0).astype(np.float32)


# ---- training ----


@contextmanager
def _one_thread(torch: ModuleType) -> Iterator[None]:
    """Let torch compute in one thread: for products this small several gain little, and on a busy machine lose all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train(
    torch: ModuleType, setting: Setting, inputs: SingleArray, targets: SingleArray, marks: Sequence[int], bar: tqdm
) -> RunResult:
    start = time.perf_counter()
    trunk, head = _network(torch, setting, inputs.shape[1], targets.shape[1])
    X, Y = torch.from_numpy(inputs), torch.from_numpy(targets)
    penalties = None if math.isnan(setting.c) else SimpleNamespace(c=setting.c)
    model, optimizer = torch.nn.Sequential(trunk, head), _optimizer(torch, setting, trunk, head)
    monitor = Monitor(model, [(X, Y)], penalties=penalties, name=setting.name, optimizer=optimizer)
    heads = []
    steps = _descend(
        torch=torch, trunk=trunk, head=head, optimizer=optimizer, setting=setting, X=X, Y=Y, marks=marks, bar=bar
    )
    for step in steps:
        monitor.evaluate(step)
        heads.append(head.weight.detach().numpy().copy())
    with torch.no_grad():
        H = trunk(X)
    assert monitor.report is not None
    return RunResult(
        name=setting.name,
        weight_decay=setting.weight_decay,
        relu=setting.relu,
        steps=marks[-1],
        c=setting.c,
        history=monitor.records(),
        recorded=monitor.history,
        report=monitor.report,
        H=H.numpy(),
        Y=targets,
        W=heads[-1],
        b=head.bias.detach().numpy().copy(),
        head_history=np.array(heads),
        seconds=time.perf_counter() - start,
    )


def _network(torch: ModuleType, setting: Setting, inputs: int, outputs: int) -> tuple[Module, Linear]:
    """The three hidden layers and the head, with torch's usual initial values but from a generator of their own."""
    nn = torch.nn
    linear = partial(nn.utils.skip_init, nn.Linear, device="cpu", dtype=torch.float32)
    hidden = [linear(inputs, WIDTH), linear(WIDTH, WIDTH), linear(WIDTH, WIDTH)]
    head = linear(WIDTH, outputs)
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for layer in (*hidden, head):
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        hidden[-1].bias += setting.feature_bias
    last = [nn.ReLU()] if setting.relu else []
    layers = [hidden[0], nn.ReLU(), hidden[1], nn.ReLU(), hidden[2], *last]
    return nn.Sequential(*layers), head


def _optimizer(torch: ModuleType, setting: Setting, trunk: Module, head: Linear) -> Optimizer:
    parameters: list[Tensor] = [*trunk.parameters(), *head.parameters()]
    if setting.feature_penalty > 0.0:
        decayed: list[Tensor] = [head.weight]
    elif setting.biases_decay:
        decayed = parameters
    else:
        decayed = [parameter for parameter in parameters if parameter.ndim == 2]
    chosen = {id(parameter) for parameter in decayed}
    free = [parameter for parameter in parameters if id(parameter) not in chosen]
    groups = [{"params": decayed, "weight_decay": setting.weight_decay}]
    if free:
        groups.append({"params": free, "weight_decay": 0.0})
    optimizer: Optimizer = torch.optim.SGD(groups, lr=setting.learning_rate, momentum=MOMENTUM, foreach=True)
    return optimizer


def _descend(
    torch: ModuleType,
    trunk: Module,
    head: Linear,
    optimizer: Optimizer,
    setting: Setting,
    X: Tensor,
    Y: Tensor,
    marks: Sequence[int],
    bar: tqdm,
) -> Iterator[int]:
    """Stochastic gradient descent that stops at every mark.

    The loss is that of the UFM, (1/2N) |prediction - target|^2, summed over the outputs; for two outputs it is
    torch's mse_loss.
    """
    generator = torch.Generator().manual_seed(SEED)
    batch, steps = min(BATCH, len(X)), marks[-1]
    batches = len(X) // batch
    stops = set(marks)
    for step in range(steps + 1):
        if step in stops:
            yield step
        if step == steps:
            break
        if step % batches == 0:
            order = torch.randperm(len(X), generator=generator, device="cpu")
            X_shuffled, Y_shuffled = X[order], Y[order]
        rate = setting.learning_rate * min(1.0, (steps - step) / (setting.cooling * steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = slice(step % batches * batch, (step % batches + 1) * batch)
        features = trunk(X_shuffled[rows])
        loss = torch.nn.functional.mse_loss(head(features), Y_shuffled[rows], reduction="sum") / (2 * batch)
        if setting.feature_penalty > 0.0:
            loss = loss + features.square().sum() * (setting.feature_penalty / (2 * batch))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        bar.update()
