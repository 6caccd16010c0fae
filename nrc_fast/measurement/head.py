"""The head of a network as a measurement takes it: weights, bias, number of components, penalties."""

from __future__ import annotations

import zlib

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray, WholeNumbers
from nrc_fast.base.linalg import EPSILON, RowSpace, row_space
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.kernels.interface import Rows
from nrc_fast.metrics.prediction import PenaltyProduct

__all__ = ["Head", "checksum", "component_numbers", "require_penalties", "weights_and_row_space", "whole_numbers"]


def require_penalties(penalties: PenaltyProduct | None) -> None:
    """Check that an object says what c is.

    Raises
    ------
    TypeError, ValueError
        It has no c, or several.
    """
    if penalties is not None and not hasattr(penalties, "c"):
        msg = f"penalties is a {type(penalties).__name__}; an object with c = lambda_W lambda_H is expected"
        raise TypeError(msg)
    if penalties is not None and np.ndim(penalties.c) > 0:
        msg = f"penalties.c has shape {np.shape(penalties.c)}; one c is expected, for the one training that is measured"
        raise ValueError(msg)


class Head:
    """The last layer, and the number of target dimensions, checked against the features and targets.

    Parameters
    ----------
    W : (n, d) array or tensor, optional
    b : (n,) array or tensor, optional
    n : int, optional
    d, n_targets : int
        Widths of features and targets; 0 without targets.

    Attributes
    ----------
    weights, bias : float64 arrays or None
    row_space : RowSpace
    n : int
        The target dimension, which may be larger than d.
    components : int
        How many components NRC1 has: n, or d where there are fewer features than targets.

    Raises
    ------
    TypeError, ValueError
        They do not fit together, or n is not known.
    """

    def __init__(
        self, W: Array | Rows | None, b: Array | Rows | None, n: int | None, *, d: int, n_targets: int
    ) -> None:
        self.weights: FloatArray | None = None
        self.row_space = RowSpace(np.zeros((0, d)), np.zeros(0), 0.0)
        self.epsilon = EPSILON
        if W is not None:
            self.weights, self.row_space, self.epsilon = weights_and_row_space(W, d)
        self.n = self._target_dimension(n, d, n_targets)
        self.components = min(self.n, d)
        self.bias = self._check_bias(b)

    def notes(self) -> list[str]:
        """What the sizes leave to be measured, and the stored numbers of W open about its row space, in sentences."""
        return self._notes_of_sizes() + self._notes_of_weights()

    def _notes_of_sizes(self) -> list[str]:
        if self.n <= self.components:
            return []
        has_full_rank = len(self.row_space.basis) == self.components
        spanned = "components and the rows of W span" if has_full_rank else "components span"
        values = "NRC1 and NRC2 are" if has_full_rank else "NRC1 is"
        note = (
            f"There are more outputs ({self.n}) than features ({self.components}): their {spanned} everything, so that "
            f"{values} 0 whatever the features are."
        )
        return [note]

    def _notes_of_weights(self) -> list[str]:
        if self.weights is None:
            return []
        values = self.row_space.singular_values
        if not values.size:
            return ["W is zero: it has no row space and no shape, and NRC2, NRC3 and gamma are NaN."]
        # To round each number of W by half a unit moves no singular value by more than this.
        rounding = self.epsilon / 2.0 * float(np.linalg.norm(values))
        faint = int(np.count_nonzero(values <= rounding))
        if not faint:
            return []
        note = (
            f"The smallest singular value of W is {values[-1]:.1e} of its largest, and {faint} of the {len(values)} "
            f"that NRC2 counts may be the rounding of the type that W is stored in ({rounding:.1e}): their directions "
            "are those of the stored numbers, not of the training."
        )
        return [note]

    def _target_dimension(self, n: int | None, d: int, n_targets: int) -> int:
        sizes = {
            "n": None if n is None else whole_numbers(n)[0],
            "the rows of W": None if self.weights is None else self.weights.shape[0],
            "the columns of Y": n_targets or None,
        }
        known = {name: size for name, size in sizes.items() if size is not None}
        if not known:
            msg = "n is not known: give W, Y or n=, the number of target dimensions"
            raise ValueError(msg)
        if len(set(known.values())) > 1:
            listed = ", ".join(f"{name}: {size}" for name, size in known.items())
            msg = f"the target dimension differs ({listed})"
            raise ValueError(msg)
        size = next(iter(known.values()))
        # More outputs than features there may well be, but no more components.
        if size < 1 or (size > d and set(known) == {"n"}):
            raise ValueError(_outside(size, d))
        return size

    def _check_bias(self, b: Array | Rows | None) -> FloatArray | None:
        if b is None:
            return None
        if self.weights is None:
            msg = "b was given without W; the prediction W h + b needs both"
            raise ValueError(msg)
        bias, _ = as_matrix(b, "b", vector_is_column=True)
        if bias.shape != (self.n, 1):
            msg = f"b has {bias.shape[0]} values; one for each of the {self.n} rows of W is expected"
            raise ValueError(msg)
        return bias[:, 0]


def checksum(values: Array | Rows | None, name: str) -> int | None:
    """What tells weights or a bias from others, in a checkpoint."""
    return None if values is None else zlib.crc32(as_matrix(values, name, vector_is_column=True)[0].tobytes())


def component_numbers(n: int | WholeNumbers, d: int) -> list[int]:
    """One or several numbers of components, each checked to lie in 1..d."""
    numbers = whole_numbers(n)
    if min(numbers) < 1 or max(numbers) > d:
        raise ValueError(_outside(n, d))
    return numbers


def whole_numbers(n: int | WholeNumbers) -> list[int]:
    """One or several numbers of components as a list.

    Raises
    ------
    TypeError
        They are no whole numbers.
    """
    numbers = np.atleast_1d(np.asarray(n))
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        msg = f"n is {n!r}; a whole number of components, a sequence of them or None is expected"
        raise TypeError(msg)
    return [int(number) for number in numbers]


def _outside(n: int | WholeNumbers, d: int) -> str:
    return f"n is {n!r}; it must lie between 1 and d = {d}, the number of features"


def weights_and_row_space(W: Array | Rows, d: int) -> tuple[FloatArray, RowSpace, float]:
    """W in float64, its row space, and the machine epsilon of the dtype in which W is stored."""
    weights, epsilon = as_matrix(W, "W")
    if weights.shape[1] != d:
        msg = f"W has shape {weights.shape} and H has {d} features; W must be (n, {d})"
        raise ValueError(msg)
    return weights, row_space(weights), epsilon
