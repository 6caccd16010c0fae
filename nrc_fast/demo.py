"""The demonstration: train small networks on recorded torques and watch their features collapse, or not."""

from __future__ import annotations

import importlib
import math
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np

from nrc_fast.collapse import nrc3
from nrc_fast.linalg import FloatArray
from nrc_fast.measurement import measure
from nrc_fast.plot import plot_runs
from nrc_fast.report import Report

__all__ = ["Checkpoint", "RunResult", "run"]

WIDTH = 256
BATCH = 256
MOMENTUM = 0.9
STEPS, CHECKPOINTS = 5000, 32
QUICK_STEPS, QUICK_CHECKPOINTS = 1250, 16
ROWS = 8  # of a printed table, after that of step 0
LINE = 110
SEED = 0

# What the sentences at the end call collapsed, and what an affine plane.
COLLAPSED = 1e-3  # NRC1 and NRC2 are below
NEAR_PLANE = 0.05  # of the variance lies outside the first n components
AWAY_FROM_ORIGIN = 0.1  # of the energy, that of the mean included, lies outside the plane of these components
FALLEN = 0.1  # of the NRC1 of step 0 is left
SHAPED = 0.01  # NRC3 is below
AT_C = 1e-3  # NRC3 is below, for the gamma of the theory
AGREES = 0.1  # relative difference of measured and predicted MSE


@dataclass(frozen=True)
class Setting:
    """How a network is trained.

    Attributes
    ----------
    name : str
    weight_decay : float
        ``(weight_decay/2) |parameters|^2``, of all layers, or of the head alone where the features are penalised.
    relu : bool
        Whether the third hidden layer, whose outputs are the features, has a ReLU.
    learning_rate : float
    cooling : float
        The share of the steps, at the end, over which the learning rate falls to 0.
    biases_decay : bool
    feature_bias : float
        Added to the initial biases of the third hidden layer.
    feature_penalty : float
        lambda_H of the UFM: ``(lambda_H/2) |h|^2``, averaged over the samples.
    """

    name: str
    weight_decay: float
    relu: bool = False
    learning_rate: float = 0.1
    cooling: float = 0.2
    biases_decay: bool = True
    feature_bias: float = 0.0
    feature_penalty: float = 0.0

    @property
    def c(self) -> float:
        """lambda_W lambda_H where both are known, else NaN."""
        return self.weight_decay * self.feature_penalty if self.feature_penalty > 0.0 else math.nan

    def __str__(self) -> str:
        if self.feature_penalty > 0.0:
            decayed = (
                f"lambda_W = {self.weight_decay:g} on the head, lambda_H = {self.feature_penalty:g} on the features"
            )
        else:
            decayed = (
                f"weight decay {self.weight_decay:g} on {'all' if self.biases_decay else 'weights, not on biases'}"
            )
        shift = f", biases of the ReLU features start {self.feature_bias:g} higher" if self.feature_bias else ""
        rate = (
            f"learning rate {self.learning_rate:g}, falling to 0 over the last {100 * self.cooling:.0f}% of the steps"
        )
        return f"{self.name}: {decayed}{shift}; {rate}"


SETTINGS = (
    Setting("weight decay 5e-3", 5e-3),
    Setting("weight decay 1.5e-3", 1.5e-3),
    Setting("no weight decay", 0.0),
    # Free biases that start above 0 leave the ReLUs a plane away from the origin to collapse to.
    Setting("ReLU, free biases", 1.5e-2, relu=True, learning_rate=0.02, biases_decay=False, feature_bias=0.5),
    Setting("UFM penalties", 0.2, cooling=0.6, feature_penalty=0.2),
)


@dataclass(frozen=True)
class Checkpoint:
    """What was measured at one step.

    Attributes
    ----------
    step : int
    mse : float
        Training MSE, summed over the outputs.
    r2 : float
    nrc1, nrc2 : float
        Under convention nrc24.
    nrc3 : float
        For the gamma of the run's last step, as in the paper.
    gamma : float
        Where NRC3 of this step is smallest.
    explained_variance : float
        Share of the features' variance in the first n components.
    nrc1_id25, nrc1_variance : float
        NRC1 under conventions id25 and variance.
    """

    step: int
    mse: float
    r2: float
    nrc1: float
    nrc2: float
    nrc3: float
    gamma: float
    explained_variance: float
    nrc1_id25: float
    nrc1_variance: float


@dataclass(frozen=True, eq=False)
class RunResult:
    """One trained network.

    Attributes
    ----------
    name : str
    weight_decay : float
    relu : bool
    steps : int
    c : float
        lambda_W lambda_H where the features were penalised, else NaN.
    history : tuple of Checkpoint
    report : Report
        Of the last step; its prediction is that for `c` where `c` is known.
    H, Y, W, b : float32 arrays
        Features (N, 256), standardised targets (N, n), weights (n, 256) and bias (n,) of the head at the last step.
    head_history : (checkpoints, n, 256) float32 array
        The weights of the head at every checkpoint.
    seconds : float
    """

    name: str
    weight_decay: float
    relu: bool
    steps: int
    c: float
    history: tuple[Checkpoint, ...]
    report: Report
    H: Any
    Y: Any
    W: Any
    b: Any
    head_history: Any
    seconds: float


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
    print(_header(path, about, inputs, actions, steps), file=out)
    results = []
    disable = None if progress is None else not progress
    with _one_thread(torch), tqdm.tqdm(total=steps * len(SETTINGS), unit=" steps", disable=disable) as bar:
        for setting in SETTINGS:
            bar.set_description(setting.name)
            results.append(_train(torch, setting, inputs, targets, marks, bar))
            bar.clear()
            print(f"\n{_history_table(results[-1])}", file=out, flush=True)
    print(f"\n{_summary_table(results)}\n", file=out)
    for finding in _findings(results):
        print(_item(finding), file=out)
    if plot is not None:
        plot_runs(results).savefig(plot)
        print(f"\nThe curves are in {plot}.", file=out)
    return results


def _require(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        msg = f"the demonstration needs {name}: pip install 'nrc-fast[demo]'"
        raise ImportError(msg) from error


# ---- data ----


def _find_data(data: Path | None) -> Path:
    package = Path(__file__).resolve().parent
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


def _standardised(rows: FloatArray) -> Any:
    """Columns with mean 0 and variance 1, as float32; a column that is constant but for rounding becomes 0."""
    deviations = rows - rows.mean(axis=0)
    scale = deviations.std(axis=0)
    varies = scale > 1e-12 * np.abs(rows).max(axis=0)
    return np.where(varies, deviations / np.where(varies, scale, 1.0), 0.0).astype(np.float32)


# ---- training ----


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """Let torch compute in one thread: for products this small several gain little, and on a busy machine lose all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train(torch: Any, setting: Setting, inputs: Any, targets: Any, marks: Sequence[int], bar: Any) -> RunResult:
    start = time.perf_counter()
    trunk, head = _network(torch, setting, inputs.shape[1], targets.shape[1])
    X, Y = torch.from_numpy(inputs), torch.from_numpy(targets)
    penalties = None if math.isnan(setting.c) else SimpleNamespace(c=setting.c)
    records, heads = [], []
    for step in _descend(torch, trunk, head, setting, X, Y, marks, bar):
        with torch.no_grad():
            H = trunk(X)
        report = measure(H, Y, head.weight, head.bias, penalties=penalties)
        records.append(_checkpoint(step, report))
        heads.append(head.weight.detach().numpy().copy())
    return RunResult(
        name=setting.name,
        weight_decay=setting.weight_decay,
        relu=setting.relu,
        steps=marks[-1],
        c=setting.c,
        history=_with_final_gamma(records, heads, targets),
        report=report,
        H=H.numpy(),
        Y=targets,
        W=heads[-1],
        b=head.bias.detach().numpy().copy(),
        head_history=np.array(heads),
        seconds=time.perf_counter() - start,
    )


def _network(torch: Any, setting: Setting, inputs: int, outputs: int) -> tuple[Any, Any]:
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
    return nn.Sequential(hidden[0], nn.ReLU(), hidden[1], nn.ReLU(), hidden[2], *last), head


def _optimizer(torch: Any, setting: Setting, trunk: Any, head: Any) -> Any:
    parameters = [*trunk.parameters(), *head.parameters()]
    if setting.feature_penalty > 0.0:
        decayed = [head.weight]
    elif setting.biases_decay:
        decayed = parameters
    else:
        decayed = [parameter for parameter in parameters if parameter.ndim == 2]
    chosen = {id(parameter) for parameter in decayed}
    free = [parameter for parameter in parameters if id(parameter) not in chosen]
    groups = [{"params": decayed, "weight_decay": setting.weight_decay}]
    if free:
        groups.append({"params": free, "weight_decay": 0.0})
    return torch.optim.SGD(groups, lr=setting.learning_rate, momentum=MOMENTUM, foreach=True)


def _descend(
    torch: Any, trunk: Any, head: Any, setting: Setting, X: Any, Y: Any, marks: Sequence[int], bar: Any
) -> Iterator[int]:
    """Stochastic gradient descent that stops at every mark.

    The loss is that of the UFM, (1/2N) |prediction - target|^2, summed over the outputs; for two outputs it is
    torch's mse_loss.
    """
    optimizer = _optimizer(torch, setting, trunk, head)
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


def _checkpoint(step: int, report: Report) -> Checkpoint:
    return Checkpoint(
        step=step,
        mse=report.mse,
        r2=report.r2,
        nrc1=report.nrc1,
        nrc2=report.nrc2,
        nrc3=report.nrc3,
        gamma=report.gamma,
        explained_variance=float(np.sum(report.explained_variance_ratio[: report.n])),
        nrc1_id25=report.alternatives["id25"]["nrc1"],
        nrc1_variance=report.alternatives["variance"]["nrc1"],
    )


def _with_final_gamma(records: list[Checkpoint], heads: list[Any], targets: Any) -> tuple[Checkpoint, ...]:
    """The records with NRC3 for the gamma of the last one."""
    gamma = records[-1].gamma
    if math.isnan(gamma):
        return tuple(replace(record, nrc3=math.nan) for record in records)
    covariance = np.cov(targets.astype(np.float64), rowvar=False, bias=True)
    return tuple(
        replace(record, nrc3=nrc3(head, covariance=covariance, gamma=gamma))
        for record, head in zip(records, heads, strict=True)
    )


# ---- tables ----


def _header(path: Path, about: str, inputs: Any, actions: FloatArray, steps: int) -> str:
    n = actions.shape[1]
    source = (
        f"Data: {path}, {len(inputs):,} rows of {inputs.shape[1]} observations and {n} actions, each column "
        "standardised: weight decay is weighed against targets of variance 1 instead of "
        f"{', '.join(f'{variance:.2g}' for variance in actions.var(axis=0))}."
    )
    model = (
        f"Model: {inputs.shape[1]}-{WIDTH}-{WIDTH}-{WIDTH}-{n} with ReLUs; the features are the outputs of the third "
        f"hidden layer, linear unless a run says ReLU. SGD, batches of {min(BATCH, len(inputs))}, momentum "
        f"{MOMENTUM}, {steps:,} steps a run."
    )
    paragraphs = [textwrap.fill(paragraph, LINE) for paragraph in (source, about, model) if paragraph]
    return "\n".join([*paragraphs, *(_item(str(setting)) for setting in SETTINGS)])


def _history_table(result: RunResult) -> str:
    last = len(result.history) - 1
    rows = sorted({round(last * k / ROWS) for k in range(ROWS + 1)})
    n = result.report.n
    title = f"{result.name} ({result.seconds:.0f} s; NRC3 with gamma = {result.report.gamma:.4g}, the best at the end)"
    names = (
        f"{'step':>6}{'train MSE':>11}{'R2':>9}{'NRC1':>10}{'(id25)':>10}{'NRC2':>10}{'NRC3':>10}"
        f"{f'variance in first {n}':>22}"
    )
    lines = [title, names]
    lines += [
        f"{record.step:>6}{record.mse:>11.5f}{record.r2:>9.4f}{record.nrc1:>10.1e}{record.nrc1_id25:>10.1e}"
        f"{record.nrc2:>10.1e}{record.nrc3:>10.1e}{_percent_inside(record.nrc1_variance):>22}"
        for record in (result.history[row] for row in rows)
    ]
    return "\n".join(lines)


def _summary_table(results: Sequence[RunResult]) -> str:
    names = (
        f"{'at the end of':<22}{'train MSE':>10}{'R2':>8}{'NRC1 nrc24':>12}{'id25':>9}{'variance':>10}{'NRC2':>9}"
        f"{'NRC3':>9}{'gamma':>9}{'UFM: MSE':>10}"
    )
    lines = [names]
    for result in results:
        record = result.history[-1]
        # Without known penalties the prediction follows from gamma, and gamma = 0 predicts nothing but MSE = 0.
        predicted = "" if math.isnan(result.c) or result.report.ufm is None else f"{result.report.ufm.mse:.4f}"
        lines.append(
            f"{result.name:<22}{record.mse:>10.4f}{record.r2:>8.4f}{record.nrc1:>12.1e}{record.nrc1_id25:>9.1e}"
            f"{record.nrc1_variance:>10.1e}{record.nrc2:>9.1e}{record.nrc3:>9.1e}{record.gamma:>9.4f}{predicted:>10}"
        )
    return "\n".join(lines)


def _item(text: str) -> str:
    return textwrap.fill(text, LINE, initial_indent="- ", subsequent_indent="  ")


def _percent_inside(outside: float) -> str:
    """What is left of 1 in percent; rounding never makes it 100%."""
    return ">99.99%" if 0.0 < outside < 1e-4 else f"{100.0 * (1.0 - outside):.2f}%"


# ---- what the numbers say ----


def _findings(results: Sequence[RunResult]) -> list[str]:
    """A finding for each run and one for NRC3 under weight decay, worded by what was measured."""
    findings = [f"{result.name}: {_finding(result)}" for result in results]
    decayed = [result for result in results if result.weight_decay > 0.0 and math.isnan(result.c)]
    missed = [result for result in decayed if result.history[-1].nrc3 > SHAPED]
    if missed:
        values = ", ".join(f"{result.history[-1].nrc3:.2g}" for result in missed)
        findings.append(
            f"NRC3 does not come near 0 in {len(missed)} of {len(decayed)} runs with weight decay ({values}): W W^T "
            "does not take the shape of the UFM. That model penalises the features, weight decay the layers below."
        )
    return findings


def _finding(result: RunResult) -> str:
    first, last = result.history[0], result.history[-1]
    if math.isnan(last.nrc1) or math.isnan(last.nrc1_variance):
        return "the features are all equal; there is nothing to measure."
    if not math.isnan(result.c):
        return _ufm_finding(result)
    n = result.report.n
    change = f"NRC1 went from {first.nrc1:.2g} to {last.nrc1:.2g} and NRC2 from {first.nrc2:.2g} to {last.nrc2:.2g}"
    if max(last.nrc1, last.nrc2) < COLLAPSED:
        return f"collapse. {change}: the features lie in the space that the {n} rows of W span."
    near_plane = last.nrc1_variance < NEAR_PLANE
    if near_plane and _energy_outside(result) > AWAY_FROM_ORIGIN:
        return (
            f"collapse towards an affine plane, the trap. {_percent_inside(last.nrc1_variance)} of the variance lies "
            f"in {n} components ({_percent_inside(first.nrc1_variance)} at step 0), and yet NRC1 under nrc24 is "
            f"{last.nrc1:.2g}: that plane does not hold the origin, and nrc24 projects the rows as they are. id25, "
            f"which subtracts their mean, went from {first.nrc1_id25:.2g} to {last.nrc1_id25:.2g}."
        )
    if near_plane or last.nrc1 < FALLEN * first.nrc1:
        return f"on the way, not collapsed in {result.steps:,} steps. {change}."
    return f"no collapse. {change}, with R2 = {last.r2:.4f}."


def _energy_outside(result: RunResult) -> float:
    """Share of the features' energy, that of their mean included, outside the plane of the first n components."""
    energy = float(np.sum(result.H.astype(np.float64) ** 2)) / len(result.H)
    return result.report.alternatives["raw"]["nrc1"] / energy


def _ufm_finding(result: RunResult) -> str:
    last, prediction = result.history[-1], result.report.ufm
    if prediction is None:
        return "there is no prediction."
    # A c above the smallest eigenvalue is no gamma that NRC3 is defined for.
    gamma = result.c if prediction.rank == result.report.n else last.gamma
    at_c = nrc3(result.W, result.Y, gamma=gamma)
    agrees = not at_c > AT_C and abs(last.mse - prediction.mse) < AGREES * prediction.mse
    verdict = "as the theory says" if agrees else "not yet what the theory says"
    return (
        f"{verdict}. With penalties on the features and on W the minimum is known: NRC3 = 0 at gamma = lambda_W "
        f"lambda_H = {result.c:.4g} and MSE = {prediction.mse:.4g}. Measured: NRC3 = {at_c:.2g} there "
        f"({last.nrc3:.2g} at {last.gamma:.4g}) and MSE = {last.mse:.4g}. NRC1 went from "
        f"{result.history[0].nrc1:.2g} to {last.nrc1:.2g}."
    )
