"""`Descent`: where gradient descent on the UFM ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray, TextArray
from nrc_fast.base.cards import card
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.svg import sparkline
from nrc_fast.kernels.samples import Reader
from nrc_fast.metrics.decay_slopes import fitted_slope
from nrc_fast.ufm.descent.dynamics import Problems
from nrc_fast.ufm.inputs import Batched, BatchedBool, BatchedInt, plain
from nrc_fast.ufm.solution import Minimum

__all__ = ["Descent"]

# NRC1 below this is the square of roundings.
RESOLVED, LEAST_STEPS = 1e-26, 3


@dataclass(frozen=True, eq=False, repr=False)
class Descent:
    """Where gradient descent ended, and what was recorded on the way; made by `descend`.

    Batch axes lead in every field; the final state of a problem that diverged is NaN.

    Attributes
    ----------
    weights : (..., n, d) float64 array
    bias : (..., n) float64 array
    steps : int or (...) array
        Steps that were taken, fewer than asked for where descent converged or diverged.
    converged, diverged : bool or (...) array
        Converged are those that `tolerance` has stopped; nothing is without one.
    gradients : float or (...) array
        The largest of the gradients by W, H and b at the end, relative to the terms that cancel in it: what `tolerance`
        is compared with. NaN for what diverged.
    errors : str or (...) array of str
        What went wrong, and the largest stable learning rates; empty where nothing did.
    recorded_steps : (r,) array
    history : dict of str to (..., r) float64 arrays
        The metrics at these steps; a problem that stopped keeps its last value, NaN if it diverged.
    predicted : Minimum or None
        The minimum in closed form, where there is one.
    tolerance : float
    notes : tuple of str
        What the learning rates leave slow.
    predicted_slope : float or (...) array
        Change of the logarithm of NRC1 per step that the penalty of the features alone makes, ``2 log(1 - lr_H
        lambda_H/M)`` without momentum: late in the descent, when W stands still, what is left of the features outside
        its row space and apart from the targets sees nothing else.
    """

    __module__ = "nrc_fast.ufm"

    weights: FloatArray
    bias: FloatArray
    steps: BatchedInt
    converged: BatchedBool
    diverged: BatchedBool
    gradients: Batched
    errors: str | TextArray
    recorded_steps: IntArray
    history: dict[str, FloatArray]
    predicted: Minimum | None
    tolerance: float
    notes: tuple[str, ...]
    predicted_slope: Batched
    _problems: Problems
    _targets: Reader | None

    @cached_property
    def measured_slope(self) -> Batched:
        """Slope of the least-squares line through log NRC1 of the last half of the recorded steps, per step.

        NaN where NRC1 was not recorded (``record="nrc1"``) at three steps at least while it was above its rounding.

        Examples
        --------
        >>> from nrc_fast.ufm import descend
        >>> found = descend(covariance=[[1.0]], samples=50, d=3, steps=400, lambda_W=0.1, lambda_H=0.1, lr=0.2,
        ...                 lr_H=10.0, record="nrc1", at=20)
        >>> abs(found.measured_slope / found.predicted_slope - 1.0) < 1e-3
        True
        """
        batch = np.shape(self.steps)
        curves = self.history.get("nrc1", np.full((*batch, len(self.recorded_steps)), np.nan))
        flat = curves.reshape(-1, curves.shape[-1])
        taken = np.broadcast_to(self.steps, batch).ravel()
        slopes = [_late_slope(self.recorded_steps, curve, last) for curve, last in zip(flat, taken, strict=True)]
        return plain(np.array(slopes).reshape(batch))

    def features(self, index: tuple[int, ...] = ()) -> FloatArray:
        """The features H_t = Z T_t^T of one problem, (M, d).

        Where the start was drawn from a seed, H0 is made now: features with just the moments that were drawn, the
        same ones on every call.

        Parameters
        ----------
        index : tuple of int
            Which problem of the batch; not needed for a single one.

        Raises
        ------
        ValueError
            Only moments of the targets or of the starting features were given, or the index is none of the batch.
        """
        problems = self._problems
        if self._targets is None:
            msg = "features belong to targets, and only their moments were given; call descend with Y"
            raise ValueError(msg)
        if len(index) != len(problems.batch) or any(
            not 0 <= k < size for k, size in zip(index, problems.batch, strict=True)
        ):
            msg = f"index is {index}; one problem of a batch of shape {problems.batch} is expected"
            raise ValueError(msg)
        which = int(np.ravel_multi_index(index, problems.batch)) if index else 0
        targets = self._targets()
        start = problems.starts[int(problems.descent.moment_index[which])]
        transform = problems.descent.transform(which)
        d, n = problems.d, problems.n
        rows: FloatArray = start.rows(targets) @ transform[:, :d].T
        rows += targets @ transform[:, d : d + n].T
        rows += transform[:, d + n]
        return rows

    def _repr_html_(self) -> str:
        first, *errors = str(self).splitlines()
        rows = []
        for name, values in self.history.items():
            # Of several problems the one in the middle at every step; NaN where most have diverged.
            curve = np.median(values.reshape(-1, values.shape[-1]), axis=0).tolist()
            line = sparkline(curve, f"{name} over {len(curve)} recorded steps", is_log=True)
            rows.append((name, f"{curve[-1]:.4g}" if curve else "", line))
        header = ("", "last" if np.ndim(self.steps) == 0 else "last, median", "recorded steps")
        return card(first, rows=rows, header=header, notes=(error.strip() for error in errors))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        count = max(int(np.size(self.steps)), 1)
        ends = [f"{int(np.sum(self.diverged)):,} diverged", *self._gradients_in_words()]
        if self.tolerance:
            ends.insert(0, f"{int(np.sum(self.converged)):,} converged")
        title = f"descent on {count:,} UFM{'s' if count > 1 else ''}, {int(np.max(self.steps)):,} steps"
        lines = [f"{title}: {', '.join(ends)}"]
        lines += [f"  {error}" for error in dict.fromkeys(np.ravel(self.errors)) if error]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _gradients_in_words(self) -> list[str]:
        known = np.ravel(self.gradients)[np.isfinite(np.ravel(self.gradients))]
        if not known.size:
            return []
        least, most = (f"{value:.1e}" for value in (known.min(), known.max()))
        return [f"relative gradient{f's {least} to' if least != most else ''} {most}"]


def _late_slope(steps: IntArray, curve: FloatArray, last: int) -> float:
    """The slope of one problem over the last half of its steps, up to the one at which it stopped."""
    counts = (curve > RESOLVED) & (steps <= last)
    if np.count_nonzero(counts) < LEAST_STEPS:
        return float("nan")
    known, values = steps[counts], curve[counts]
    late = known >= (known[0] + known[-1]) / 2
    if np.count_nonzero(late) < LEAST_STEPS:
        late = np.arange(len(known)) >= len(known) - LEAST_STEPS
    return fitted_slope(known[late].tolist(), values[late].tolist(), [0.0] * int(np.count_nonzero(late))).value
