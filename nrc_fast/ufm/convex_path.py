"""`convex`: the global minimum of the unconstrained feature model under a convex loss, along a path of penalties.

For features of at least the rank of the minimum the model is a convex problem of the predictions z and the bias:
``min (1/M) sum w l(z + b, y) + sqrt(c) |Z D^(1/2)|_*/sqrt(M)`` with D the diagonal of the weights and |.|_* the sum of
singular values. Its duality gap says how far any point is from the minimum at most.
"""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.linalg import fix_signs
from nrc_fast.base.memory import require_memory
from nrc_fast.metrics.training_losses import TrainingLossName
from nrc_fast.ufm.closed_form import product_of_penalties
from nrc_fast.ufm.convex_minimum import ConvexMinimum
from nrc_fast.ufm.convex_solver import Solution, solve, start_without_predictions
from nrc_fast.ufm.convex_targets import Merged, merged
from nrc_fast.ufm.inputs import as_number, as_penalty, broadcast_shape, plain, plain_counts

__all__ = ["convex"]

# Relative duality gaps that are reached if nothing else is asked for.
USUAL, USUAL_OF_KINKS = 1e-10, 1e-6
# Penalties of the nuclear norm, relative to the size of the targets or of logits, that leave float64 enough digits.
OF_MATRICES = 44  # bytes for each entry of a matrix for every sample: those of a few points, as measured
LEAST_OF_ERRORS, LEAST_OF_LOGITS = 1e-8, 1e-13


def convex(
    Y: Array,
    *,
    lambda_W: Array,
    lambda_H: Array,
    loss: TrainingLossName = "squared",
    delta: float | None = None,
    weights: Array | None = None,
    bias: bool = True,
    n_classes: int | None = None,
    tolerance: float | None = None,
) -> ConvexMinimum:
    """Global minimum of the unconstrained feature model under a convex loss, with a certificate.

    The loss is ``(1/M) sum_i w_i l(W h_i + b, y_i) + (lambda_W/2) |W|^2 + (lambda_H/(2M)) sum_i w_i |h_i|^2`` with
    ``M = sum w``. With f = W h + b, l is one of these, summed over the outputs:

    ===============  ============================================================================================
    `squared`        ``(f - y)^2/2``: what `minimum` has in closed form, for a check
    `huber`          ``(f - y)^2/2`` up to an error of delta, ``delta |f - y| - delta^2/2`` beyond
    `absolute`       ``|f - y|``
    `cross_entropy`  ``log sum exp f - f_y`` of the class y
    `logistic`       ``log(1 + exp f) - y f``, each output with an answer y of 0 or 1
    ===============  ============================================================================================

    Parameters
    ----------
    Y : (M, n) or (M,) array or tensor
        Targets; answers of 0 and 1 for `logistic`; for `cross_entropy` the class of every sample, (M,), whole numbers
        from 0. Samples that are equal count as one with the sum of their weights, so that classes may be given as
        ``Y=range(K), weights=counts``.
    lambda_W, lambda_H : float or array
        Positive penalties in this loss. Arrays broadcast and their axes lead in the result; the problems are solved
        from the largest c = lambda_W lambda_H down, each from the minimum of the one before.
    loss : str
        A name of the table.
    delta : float, optional
        Where `huber` turns linear, in units of the targets; 1 if not given.
    weights : (M,) array or tensor, optional
        w, at least 0; 1 if not given.
    bias : bool
        Whether the model has one. It is not penalised.
    n_classes : int, optional
        K; the largest label plus 1 if not given. Every class needs a sample.
    tolerance : float, optional
        The duality gap to reach, relative to the loss. If not given 1e-10, and 1e-6 for `absolute`: up to a thousand
        unknowns (W, b, features, and errors that are 0) 1e-12 is reached there too; beyond, kinks leave fewer digits.

    Returns
    -------
    ConvexMinimum

    Raises
    ------
    TypeError, RuntimeError
        What is given is no array of real numbers, labels are no whole numbers, or a tensor lies on a device.
    ValueError
        The loss is unknown; targets, labels, answers, weights or penalties cannot be used or do not fit together; a
        class has no samples or an output of `logistic` only one answer, so that its bias has no minimum; the penalties
        are so small that all is fitted to the last digits.
    MemoryError
        There are so many classes, or samples that differ with so many outputs, that the machine has too little memory.
    RuntimeError
        The tolerance was not reached; the message says how near it came. Rounding allows about 1e-13.

    References
    ----------
    The convex form of cross-entropy: Zhu et al., "A geometric analysis of neural collapse with unconstrained features",
    NeurIPS 2021, and Hong and Ling, arXiv 2309.09725. The certificate, the other losses and the method are this
    project's, see docs/convex.md.

    Examples
    --------
    >>> found = convex(range(3), weights=[60, 20, 20], loss="cross_entropy", lambda_W=0.5, lambda_H=0.5)
    >>> found.rank, found.merged, found.merge_thresholds.tolist()
    (1, ((1, 2),), [nan, 0.2, 0.2])
    >>> found.relative_gap < 1e-10
    True
    >>> Y = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> convex(Y, loss="absolute", lambda_W=0.1, lambda_H=[0.1, 1.0, 10.0]).rank.tolist()
    [2, 2, 0]
    """
    weight, feature = as_penalty(lambda_W, "lambda_W", positive=True), as_penalty(lambda_H, "lambda_H", positive=True)
    batch = broadcast_shape(lambda_W=weight, lambda_H=feature)
    weight, feature = np.broadcast_to(weight, batch), np.broadcast_to(feature, batch)
    c, root_c = product_of_penalties(weight, feature)
    usual = USUAL_OF_KINKS if loss == "absolute" else USUAL
    goal = usual if tolerance is None else as_number(tolerance, "tolerance", positive=True)
    given = merged(Y, loss, delta=delta, weights=weights, bias=bias, n_classes=n_classes)
    _require_memory(given)
    levels, places = np.unique(root_c, return_inverse=True)
    with few_blas_threads(given.problem.offset.shape[1]):
        solutions = _along(given, levels[::-1], goal)[::-1]
        parts = [_decomposed(given, solution) for solution in solutions]
    at = places.reshape(batch)

    m, n = given.problem.offset.shape
    k = min(m, n)

    def spread(values: list[FloatArray], *shape: int) -> FloatArray:
        return np.stack(values)[at] if values else np.zeros((*batch, *shape))

    scale = given.unit**given.power
    vectors, kept, coordinates, offsets = ([part[k] for part in parts] for k in range(4))
    certificates = [solution.certificate for solution in solutions]
    return ConvexMinimum(
        given=given,
        lambda_W=plain(weight),
        lambda_H=plain(feature),
        c=plain(c),
        loss=plain(spread([np.asarray(scale * found.loss) for found in certificates])),
        data_loss=plain(spread([np.asarray(scale * found.data_loss) for found in certificates])),
        gap=plain(spread([np.asarray(scale * found.gap) for found in certificates])),
        bias=spread(offsets, n),
        kept=spread(kept, k),
        vectors=spread(vectors, n, k),
        coordinates=spread(coordinates, m, k),
        gradients=spread([scale / given.unit * found.gradients for found in certificates], m, n),
        errors=spread([given.unit * solution.point.errors for solution in solutions], m, n),
        steps=plain_counts(spread([np.asarray(solution.steps) for solution in solutions])),
    )


def _along(given: Merged, levels: FloatArray, tolerance: float) -> list[Solution]:
    """The minima at descending roots of c, each from the one before."""
    found: list[Solution] = []
    least = LEAST_OF_ERRORS if given.power else LEAST_OF_LOGITS
    smallest = min(map(given.penalty, levels.tolist()), default=least)
    if smallest < least:
        msg = (
            f"sqrt(lambda_W lambda_H) is {smallest:.3g} in units of the targets; at least {least} is expected: "
            "below, the minimum fits everything up to errors that float64 cannot tell from 0"
        )
        raise ValueError(msg)
    point = start_without_predictions(given.problem, given.bias)
    for root_c in levels.tolist():
        solution = solve(given.problem, given.penalty(root_c), point, tolerance)
        if not solution.relative_gap <= tolerance:
            reached = solution.relative_gap
            msg = (
                f"at c = {root_c**2:.6g} the duality gap is {reached:.2g} of the loss after {solution.steps} Newton "
                f"steps, above the tolerance of {tolerance:.2g}; "
            )
            if reached < 1.0:
                msg += f"tolerance={_rounded_up(reached):.0e} takes what was found, whose loss is certified up to that"
            else:
                msg += (
                    "nothing is known of the minimum: weights and targets of sizes nearer to one another are expected"
                )
            raise RuntimeError(msg)
        found.append(solution)
        point = solution.point
    return found


def _require_memory(given: Merged) -> None:
    """Say beforehand that the matrices of all samples need more memory than there is."""
    m, n = given.problem.offset.shape
    of = f"{n:,} classes" if given.name == "cross_entropy" else f"{m:,} samples that differ, of {n:,} outputs,"
    if given.name != "squared":
        require_memory(f"loss {given.name!r} with {of}", OF_MATRICES * m * n**2, "take fewer of them")


def _rounded_up(number: float) -> float:
    """To one digit.

    Examples
    --------
    >>> _rounded_up(1.7e-6)
    2e-06
    """
    unit = 10.0 ** math.floor(math.log10(number))
    return float(f"{math.ceil(number / unit) * unit:.0e}")


def _decomposed(given: Merged, solution: Solution) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """U, a, v/sqrt(p) and b of a solution, in the units of the targets."""
    point, root = solution.point, np.sqrt(given.problem.shares)[:, np.newaxis]
    rows, values, columns = np.linalg.svd(root * (point.features @ point.weights.T), full_matrices=False)
    values[point.width :] = 0.0
    vectors = fix_signs(columns.T)
    turned = np.sign(np.sum(vectors * columns.T, axis=0))
    return vectors, given.unit * values, rows * turned / root, given.center + given.unit * point.bias
