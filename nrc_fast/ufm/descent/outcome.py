"""`Descent`: where gradient descent on the UFM ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray, TextArray
from nrc_fast.base.cards import card
from nrc_fast.base.svg import sparkline
from nrc_fast.kernels.samples import Reader
from nrc_fast.ufm.descent.dynamics import Problems
from nrc_fast.ufm.inputs import Batched, BatchedBool, BatchedInt
from nrc_fast.ufm.solution import Minimum

__all__ = ["Descent"]


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
    _problems: Problems
    _targets: Reader | None

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
