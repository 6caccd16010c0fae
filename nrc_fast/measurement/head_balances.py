"""The balance of a head with the residuals of any loss: what W W^T says of weight decay and of stationarity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.options import NonFinite
from nrc_fast.base.processes import Team
from nrc_fast.kernels.devices import Device
from nrc_fast.kernels.interface import Rows
from nrc_fast.measurement.balance_metrics import notes_of_balance, summed_balance
from nrc_fast.measurement.head import Head
from nrc_fast.measurement.suspicions import notes_on_files
from nrc_fast.metrics.head_balances import LARGEST, balance_numbers
from nrc_fast.metrics.training_losses import FORMULAS, Residual, TrainingLoss, TrainingLossName, training_loss
from nrc_fast.passes.balance_sums import BalanceSums, LinearModel
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.runs import require_rows
from nrc_fast.reports.fields import restored_bounds
from nrc_fast.reports.records import StoredResult, format_value
from nrc_fast.reports.report_rows import LABELS
from nrc_fast.reports.verdicts.balances import BalanceKnown, sentence_on_balance
from nrc_fast.reports.verdicts.levels import known
from nrc_fast.reports.verdicts.notes import notes_beside
from nrc_fast.sources import Features, Targets
from nrc_fast.sources.dispatch import is_batches
from nrc_fast.ufm.scaling import LossName, Penalties

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["HeadBalance", "head_balance"]

# As reports call them.
FIELDS = {"distance": "balance_distance", "lambda_W": "balance_decay", "asymmetry": "balance_asymmetry"}
DECOUPLED = "Of decoupled decay (AdamW) the balance says nothing: its trainings come to rest elsewhere."
# Losses whose targets may be whole numbers in batches too.
OF_CLASSES = ("cross_entropy", "logistic")
# Losses beside the squared one by what torch's own of that name are averaged over.
OVER_OUTPUTS, OVER_SAMPLES = ("huber", "absolute", "logistic"), ("cross_entropy",)


@dataclass(frozen=True, eq=False, repr=False)
class HeadBalance(StoredResult):
    """How a head W is balanced between its residuals and weight decay.

    Attributes
    ----------
    samples, d, n : int
        Rows that were read, features and outputs.
    loss : str
        Whose residuals were taken; "function" and its name where one was given.
    distance : float
        ``| B/|B| - W W^T/|W W^T| |_F^2``, in [0, 4]: 0 at every stationary point of a loss with weight decay.
    lambda_W : float
        ``tr B / tr W W^T``, the weight decay that holds W, in the scaling of the paper, where the loss is the mean over
        the samples of what is summed over the outputs, beside ``(lambda_W/2) |W|^2``.
    asymmetry : float
        ``|B - B^T| / |B|``, in [0, 2]: 0 at every stationary point.
    matrix : (n, n) float64 array
        B; infinite beyond the range of float64.
    bounds : mapping of str to float
        Absolute bounds of the three numbers. They are probable, as roundings of a row are taken to grow like the
        root of its length.
    notes : tuple of str
    """

    __module__ = "nrc_fast"
    _described = "balance of a head"

    samples: int
    d: int
    n: int
    loss: str
    distance: float
    lambda_W: float
    asymmetry: float
    matrix: FloatArray
    bounds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def _restorers(cls) -> dict[str, Any]:
        return {"bounds": restored_bounds}

    @property
    def verdict(self) -> str:
        """What the numbers say, in one sentence by fixed rules on them and their bounds.

        The rules are those of `nrc_fast.reports.verdicts.balances.sentence_on_balance`.
        """
        own = vars(self)
        distance, decay, asymmetry = (known(name, own, self.bounds) for name in FIELDS)
        return sentence_on_balance(BalanceKnown(self.n, distance, decay, asymmetry))

    def weight_decay(self, loss: LossName | None = None, *, samples: int | None = None) -> float:
        """The ``weight_decay`` of an optimiser of torch that is this lambda_W in a training loss.

        Parameters
        ----------
        loss : str, optional
            For the squared loss one of the names of `nrc_fast.ufm.penalties`. By default torch's own loss of that name
            with its mean over samples and, but for the cross-entropy, over outputs: ``MSELoss`` (`torch_mse`),
            ``HuberLoss``, ``L1Loss``, ``CrossEntropyLoss``, ``BCEWithLogitsLoss``.
        samples : int, optional
            Samples that the sums of one step run over, for losses that are summed; by default all that were measured.

        Raises
        ------
        ValueError
            The loss is unknown, or one of the squared error where another was measured; or a function was measured, of
            which nobody knows how it is averaged.

        Examples
        --------
        >>> balance = HeadBalance(500, 8, 2, "squared", 0.0, 5e-4, 0.0, np.eye(2))
        >>> balance.weight_decay(), balance.weight_decay("paper")
        (0.0005, 0.0005)
        """
        if self.loss == "squared":
            count = self.samples if samples is None else samples
            decays = Penalties(self.lambda_W, math.nan).decays(loss or "torch_mse", n=self.n, samples=count)
            return float(decays.weight_decay)
        if loss is not None or self.loss not in OVER_OUTPUTS + OVER_SAMPLES:
            msg = (
                f"the balance is that of loss {self.loss!r}; "
                + ("ufm's losses are of the squared error" if loss is not None else "how it is averaged is not known")
                + ". lambda_W is the decay beside the mean over samples of the loss summed over outputs"
            )
            raise ValueError(msg)
        return self.lambda_W / self.n if self.loss in OVER_OUTPUTS else self.lambda_W

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {getattr(self, name):.3g}" for name in FIELDS)
        return f"<HeadBalance of {self.samples:,} samples, n = {self.n}, loss {self.loss}: {numbers}>"

    def __str__(self) -> str:
        formula = f" ({FORMULAS[self.loss]})" if self.loss in FORMULAS else ""
        lines = [f"{self.samples:,} samples, d = {self.d}, n = {self.n}, loss {self.loss}{formula}", ""]
        lines += [self.verdict, "", *(f"  {label:<52}{value}" for label, value in self._rows())]
        return "\n".join([*lines, *(f"note: {note}" for note in notes_beside([self.verdict], self.notes))])

    def _rows(self, digits: int = 6) -> list[tuple[str, str]]:
        return [
            (
                LABELS[field],
                format_value(getattr(self, name), self.bounds.get(name), digits, most=LARGEST.get(name, math.inf)),
            )
            for name, field in FIELDS.items()
        ]

    def _repr_html_(self) -> str:
        title = f"balance of a head: {self.samples:,} samples, d = {self.d}, n = {self.n}, loss {self.loss}"
        return card(title, [self.verdict], self._rows(4), notes=notes_beside([self.verdict], self.notes))


def head_balance(
    H: Features,
    W: Array | Rows,
    b: Array | Rows | None,
    Y: Targets | None = None,
    *,
    loss: TrainingLossName | Residual = "squared",
    delta: float = 1.0,
    device: Device | None = None,
    nonfinite: NonFinite = "raise",
    memory: str | int | None = None,
    progress: bool | None = None,
    group: ProcessGroup | None = None,
) -> HeadBalance:
    r"""How the last layer is balanced between its residuals and weight decay: exact for every network and depth.

    A network ``f = W h + b`` is trained with ``(1/M) sum_i l(f_i, y_i) + (lambda_W/2) |W|^2``. Where the gradient with
    respect to W is zero, whatever the features, the bias and the other layers are,

    ``lambda_W W W^T = (1/M) sum_i r_i (W h_i)^T =: B``  with  ``r_i = -dl/df`` at sample i.

    So the shape of W W^T is that of B, the scale of B tells the weight decay, and B is symmetric. What is found
    elsewhere says how far a training is from a stationary point. The squared loss is ``1/2 |f - y|^2``, with
    ``r = y - f``.

    Parameters
    ----------
    H : (M, d) array or tensor, path, source, or iterable of batches
        Features, a row for each sample, as `measure` takes them. They are read once; d may be smaller than n.
    W : (n, d) array or tensor
        Weights of the last layer.
    b : (n,) array or tensor, or None
        Its bias; None for a layer without bias.
    Y : (M, n) or (M,) array or tensor, or path, optional
        Targets; of `cross_entropy` numbers of classes (M,) or probabilities (M, n). Batches and sources may hold them;
        files hold numbers of classes as floating-point numbers.
    loss : str or callable
        ``squared``; ``huber``, with `delta`; ``absolute``; ``cross_entropy`` of logits; ``logistic``, of n logits of
        their own. Of another loss the function that gives ``-dl/df`` of the outputs and the targets, both (rows, n).
    delta : float
        Where the Huber loss turns from a square to a line, as in ``torch.nn.HuberLoss``.
    device : str or torch.device, optional
        None follows the input; "cuda" copies what lies on the host there chunk by chunk.
    nonfinite : {"raise", "skip"}
        What to do with rows that hold NaN or infinite values.
    memory : str or int, optional
        What may be used beyond what the process holds, such as "2GiB".
    progress : bool, optional
        Show a bar; by default only on a terminal and with tqdm installed.
    group : torch.distributed.ProcessGroup, optional
        Every process of the group gives its own rows, and gets the balance of all.

    Returns
    -------
    HeadBalance
        Distance, lambda_W and asymmetry, each with the absolute bound of its error. For n = 1 the first and the last
        are 0 by definition. All are NaN for W = 0, and the shapes for B = 0. A negative lambda_W is one of no training
        that came to rest with weight decay; trained without any, a network at rest has one of either sign near 0.

    Raises
    ------
    TypeError, ValueError
        Arrays do not fit together, rows are not finite, the loss is unknown or a function of something else than arrays
        of numpy, delta is no positive number, or Y holds no targets of the loss.
    RuntimeError
        The device or the group cannot be used.
    OSError
        A file is missing, truncated or damaged; the message says where.

    Notes
    -----
    Small W W^T and B must be told from rounding, so that predictions and residuals are taken row by row in float64.
    The bound counts roundings of predictions and, in proportion to the steepness of ``-dl/df``, of residuals. For the
    absolute loss, and for a function, which is taken to be monotone in each output, residuals are taken at both ends of
    what an output may be.

    Momentum and minibatches change nothing where they come to rest, in expectation. Decoupled decay (AdamW) comes to
    rest elsewhere: there is no claim for it. The absolute loss has residuals between -1 and 1 where an output meets
    its target, which count as 0 here.

    References
    ----------
    This project's; the UFM (arXiv 2409.04180) is the case in which B has the shape of ``Sigma^(1/2) - sqrt(c) I``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> H = rng.standard_normal((500, 4))
    >>> Y = H @ rng.standard_normal((4, 2)) + 0.1 * rng.standard_normal((500, 2))
    >>> W = np.linalg.solve(H.T @ H / 500 + 0.05 * np.eye(4), H.T @ Y / 500).T  # ridge regression: lambda_W = 0.05
    >>> balance = head_balance(H, W, None, Y)
    >>> balance.distance < 1e-24, round(balance.lambda_W, 12), balance.asymmetry < 1e-12
    (True, 0.05, True)
    """
    chosen = training_loss(loss, delta)
    reading = begin_reading(
        map(_with_floats, H) if chosen.name in OF_CLASSES and is_batches(H) else H,
        _in_floats(Y),
        device=device,
        nonfinite=nonfinite,
        memory=memory,
        progress=progress,
        team=None if group is None else Team(group),
    )
    with closing(reading):
        source = reading.source
        head = _head_of(W, b, chosen, d=source.d, n_targets=source.n_targets)
        sums = BalanceSums(LinearModel(*head), chosen)
        reading.run("balance", sums)
        require_rows(reading, sums.count)
        reading.finish()
    matrix = summed_balance(sums)
    with np.errstate(over="ignore"):
        whole = np.ldexp(matrix.values, matrix.exponent)
    numbers = balance_numbers(matrix, head[0])
    values = {"distance": numbers.distance, "decay": numbers.decay, "asymmetry": numbers.asymmetry}
    notes = [*notes_of_balance(values, matrix, n=len(head[0])), DECOUPLED, *notes_on_files(source.files)]
    return HeadBalance(
        samples=sums.count,
        d=source.d,
        n=len(head[0]),
        loss=chosen.name,
        distance=numbers.distance,
        lambda_W=numbers.decay,
        asymmetry=numbers.asymmetry,
        matrix=whole,
        bounds={"lambda_W" if name == "decay" else name: bound for name, bound in numbers.bounds.items()},
        notes=tuple(notes),
    )


def _in_floats(targets: Targets | None) -> Targets | None:
    """Targets as they are, but whole numbers and truth values, which are classes, in float64."""
    given: Any = targets
    kind = str(getattr(given, "dtype", ""))
    if not ("int" in kind or "bool" in kind):
        return targets
    found: Targets = given.double() if hasattr(given, "double") else np.asarray(given).astype(np.float64)
    return found


def _with_floats(batch: Any) -> Any:
    """A batch, with the targets of a pair in floats."""
    is_pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    return (batch[0], _in_floats(batch[1])) if is_pair else batch


def _head_of(
    W: Array | Rows, b: Array | Rows | None, loss: TrainingLoss, *, d: int, n_targets: int
) -> tuple[FloatArray, FloatArray]:
    """W and b, checked against the features and the targets.

    Raises
    ------
    TypeError, ValueError
        They do not fit together, there are no targets, or the loss needs more outputs.
    """
    if not n_targets:
        msg = "the balance of a head needs the targets: give Y, or features that come with them"
        raise ValueError(msg)
    of_classes = loss.name == "cross_entropy"
    head = Head(W, b, None, d=d, n_targets=0 if of_classes and n_targets == 1 else n_targets)
    assert head.weights is not None
    if of_classes and head.n == 1:
        msg = "W has 1 row; the cross-entropy of one logit is 0. loss='logistic' takes one for two classes"
        raise ValueError(msg)
    return head.weights, np.zeros(head.n) if head.bias is None else head.bias
