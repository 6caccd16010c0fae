"""The global minimum of the unconstrained feature model (UFM) in closed form.

The loss is ``(1/2N) |H W^T + b - Y|^2 + (lambda_H/2N) |H|^2 + (lambda_W/2) |W|^2`` with free features H. Its
minimum is known: with the target covariance ``Sigma = U diag(lambda) U^T`` and ``c = lambda_W lambda_H`` the
singular values of the predictions are those of the targets, soft-thresholded by ``sqrt(c)``.
"""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.deferred import DeferredMapping
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.metrics.prediction import Prediction
from nrc_fast.ufm.inputs import as_float64, as_number, as_penalty, as_width, broadcast_shape, plain, plain_flags
from nrc_fast.ufm.minimum_bounds import PREDICTED, Solved, prediction_bounds
from nrc_fast.ufm.solution import Minimum
from nrc_fast.ufm.spectral import Shrinkage, shrink, within_width
from nrc_fast.ufm.targets import TargetMoments, Targets, target_moments

__all__ = ["interpolating_features", "minimum", "predicted_spectrum", "product_of_penalties"]

# Products inside these limits are normal float64 numbers with all their digits.
SMALLEST_PRODUCT, LARGEST_PRODUCT = 1e-290, 1e290


def predicted_spectrum(
    covariance: FloatArray, c: float, *, d: int | None = None, covariance_error: float = 0.0
) -> Prediction:
    """Spectra and errors at the global minimum of the UFM.

    Theorem 4.1 of the paper as printed truncates columns where lambda_n < c < lambda_1, which is right only
    for a diagonal covariance; the spectral form used here holds for every c and every covariance, singular
    ones too.

    Parameters
    ----------
    covariance : (n, n) float64 array
        Sigma, the covariance of the targets (1/N); eigenvalues that cannot be told from 0 are 0.
    c : float
        lambda_W lambda_H, >= 0; infinity is fine.
    d : int, optional
        Number of features. Fewer than n have room for the leading d directions of the targets only.
    covariance_error : float
        Bound of the Frobenius norm of the error of the covariance, which the bounds hold; 0 for one that is exact.

    Returns
    -------
    Prediction
        Its bounds are for this c, every digit of it.

    Raises
    ------
    ValueError
        If c is negative or NaN.
    numpy.linalg.LinAlgError
        If the eigenvalues of the covariance do not converge (non-finite entries).

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), theorem 4.1 and corollary 4.2.

    Examples
    --------
    >>> prediction = predicted_spectrum(np.diag([4.0, 1.0]), 0.25)
    >>> prediction.rank, prediction.mse, prediction.r2
    (2, 0.5, 0.9)
    >>> prediction.explained_variance_ratio.tolist()
    [0.75, 0.25]
    """
    if not c >= 0.0:
        msg = f"c = lambda_W * lambda_H must be at least 0, got {c}"
        raise ValueError(msg)
    product = np.asarray(c, dtype=np.float64)
    moments = TargetMoments(covariance, np.zeros(len(covariance)), covariance_error=covariance_error)

    def solved(*, is_precise: bool) -> Minimum:
        shrinkage = shrink(moments, product, np.sqrt(product), np.zeros(()), is_precise=is_precise)
        return Minimum(
            moments=moments,
            shrinkage=shrinkage if d is None else within_width(shrinkage, d),
            lambda_W=np.nan,
            lambda_H=np.nan,
            lambda_b=0.0,
            c=float(c),
            root_c=np.sqrt(product),
            scale=np.ones(()),
            is_unpenalised=c == 0.0,
            d=d,
        )

    # Covariances of reports are measured, to the digits that LAPACK keeps, and there are many of them.
    solution = solved(is_precise=False)
    return Prediction(
        c=float(c),
        rank=int(solution.rank),
        mse=float(solution.mse),
        r2=float(solution.r2),
        explained_variance_ratio=solution.explained_variance_ratio,
        cka=float(solution.cka),
        head_gram_shape=solution.head_gram_shape,
        residual_covariance=solution.residual_covariance,
        # Of many reports nobody reads them, and they take as long as the rest.
        bounds=DeferredMapping(lambda: prediction_bounds(*map(_predicted, (solution, solved(is_precise=True))))),
    )


def _predicted(solution: Minimum) -> Solved:
    return solution.solved(PREDICTED)


def minimum(
    Y: Targets | None = None,
    *,
    lambda_W: Array,
    lambda_H: Array,
    covariance: Array | None = None,
    mean: Array | None = None,
    bias: bool = True,
    lambda_b: Array = 0.0,
    limit_ratio: float = 1.0,
    d: int | None = None,
) -> Minimum:
    """Global minimum of the unconstrained feature model, for every c > 0 and any number of penalties at once.

    The loss is ``(1/2M) |H W^T + b - Y|^2 + (lambda_H/2M) |H|^2 + (lambda_W/2) |W|^2 + (lambda_b/2) |b|^2``. With the
    target covariance ``Sigma = U diag(lambda) U^T``, ``c = lambda_W lambda_H`` and ``a_j = (sqrt(lambda_j) -
    sqrt(c))_+`` its minima are ``W = (lambda_H/lambda_W)^(1/4) U diag(sqrt(a)) R`` for every R with orthonormal rows.
    Directions with lambda_j <= c are dropped; for c >= lambda_1 all is zero. Theorem 4.1 as printed truncates columns
    of a matrix root instead, which is another matrix unless Sigma is diagonal or c < lambda_n.

    Parameters
    ----------
    Y : (M, n) or (M,) array or tensor, or an object with ``target_covariance`` and ``target_mean``
        Targets, or statistics of them. In its place:
    covariance : (n, n) or (..., n, n) array or tensor
        Sigma (1/M), possibly singular; leading axes are a batch.
    mean : (n,) or (..., n) array or tensor, optional
        Target mean to go with `covariance`; zeros if not given.
    lambda_W, lambda_H : float or array
        Penalties in this loss (`penalties` turns those of a training set-up into them), >= 0. Arrays broadcast as
        in numpy, with the batch of covariances too, and their axes lead in the result: ``gram`` is (..., n, n).
        Both may be 0: see `Minimum.is_unpenalised`.
    bias : bool
        Whether the model has one. Without it, Sigma is the second moment of the targets.
    lambda_b : float or array
        Penalty of the bias. With a positive one there is a closed form only where the target mean is an eigenvector
        of the covariance, as for balanced classes, one output or a mean of zero; else use `refine`.
    limit_ratio : float
        Where both penalties are 0 the result is the limit of vanishing penalties with this ``lambda_H/lambda_W``.
    d : int, optional
        Width of the features, from 1 on; any from n on if not given, as all of these have the same minimum. Fewer than
        n hold the leading d directions of the targets alone: the others add their variance to the MSE, and their
        ``lambda_j/2`` to the loss. Not with a penalised bias.

    Returns
    -------
    Minimum

    Raises
    ------
    ValueError
        Targets or penalties cannot be used, shapes do not fit together, there is no closed form (see `lambda_b` and
        `d`), or one of lambda_W and lambda_H is 0 and the other is not: then W or H grows without end and nothing is a
        minimum.
    TypeError
        What is given is no real number or array.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), theorems 4.1 and 4.3 and corollary 4.2, in spectral form; arXiv 2510.01105 for the
    limit of vanishing penalties. That fewer features than outputs keep the leading directions is this project's.

    Examples
    --------
    >>> found = minimum(covariance=np.diag([4.0, 1.0]), lambda_W=0.5, lambda_H=0.5)
    >>> found.rank, found.mse, found.loss
    (2, 0.5, 1.25)
    >>> found.gram.tolist()
    [[1.5, 0.0], [0.0, 0.5]]
    >>> minimum(covariance=np.diag([4.0, 1.0]), lambda_W=1.5, lambda_H=[0.5, 1.0, 3.0]).rank.tolist()
    [2, 1, 0]
    >>> narrow = minimum(covariance=np.diag([4.0, 1.0]), lambda_W=0.5, lambda_H=0.5, d=1)
    >>> narrow.mse, narrow.loss, narrow.weights().shape
    (1.25, 1.375, (2, 1))
    """
    moments = target_moments(Y, covariance, mean)
    weight, feature = as_penalty(lambda_W, "lambda_W"), as_penalty(lambda_H, "lambda_H")
    bias_penalty = as_penalty(lambda_b, "lambda_b")
    width = as_width(d)
    ratio = as_number(limit_ratio, "limit_ratio", positive=True)
    if not bias and np.any(bias_penalty > 0.0):
        msg = "lambda_b penalises a bias, and bias=False leaves it out; give one of them"
        raise ValueError(msg)
    batch = broadcast_shape(lambda_W=weight, lambda_H=feature, lambda_b=bias_penalty, covariance=moments.mean[..., 0])
    weight, feature, bias_penalty = (np.broadcast_to(part, batch) for part in (weight, feature, bias_penalty))
    c, root_c = product_of_penalties(weight, feature)
    is_unpenalised = (weight == 0.0) & (feature == 0.0)
    scale = np.sqrt(np.where(is_unpenalised, ratio, feature)) / np.sqrt(np.where(is_unpenalised, 1.0, weight))
    return Minimum(
        moments=moments,
        shrinkage=_within(shrink(moments, c, root_c, bias_penalty if bias else None), width, bias_penalty),
        lambda_W=plain(weight),
        lambda_H=plain(feature),
        lambda_b=plain(bias_penalty) if bias else None,
        c=plain(c),
        root_c=root_c,
        scale=scale,
        is_unpenalised=plain_flags(is_unpenalised),
        d=width,
    )


def _within(shrinkage: Shrinkage, width: int | None, lambda_b: FloatArray) -> Shrinkage:
    """What is kept by features of this width; as it is where there is room for all directions."""
    if width is None or width >= shrinkage.values.shape[-1]:
        return shrinkage
    if np.any(lambda_b > 0.0):
        msg = (
            f"d is {width}, fewer features than outputs, and the bias is penalised: there is no closed form; use "
            "nrc_fast.ufm.refine, which takes the same arguments"
        )
        raise ValueError(msg)
    return within_width(shrinkage, width)


def product_of_penalties(lambda_W: FloatArray, lambda_H: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The product c = lambda_W lambda_H and its root, which is a float64 number where c itself over- or underflows.

    Raises
    ------
    ValueError
        Just one of two penalties is 0.

    Examples
    --------
    >>> product_of_penalties(np.array(1e-200), np.array(1e-200))[1].item()
    1e-200
    """
    if np.any((lambda_W == 0.0) != (lambda_H == 0.0)):
        msg = (
            "one of lambda_W and lambda_H is 0 and the other is positive: the loss falls towards 0 as one factor grows "
            "and the other shrinks, and has no minimum; give both positive, or both 0"
        )
        raise ValueError(msg)
    with np.errstate(over="ignore", under="ignore"):
        c = np.asarray(lambda_W * lambda_H)
    is_normal = (c > SMALLEST_PRODUCT) & (c < LARGEST_PRODUCT)
    return c, np.where(is_normal, np.sqrt(c), np.sqrt(lambda_W) * np.sqrt(lambda_H))


def interpolating_features(Y: Array, W: Array, *, b: Array | None = None, rest: Array | None = None) -> FloatArray:
    """Features of a minimum without penalties: ``h = W^+ (y - b) + (I - W^+ W) z``, which fit every target.

    Every W of full row rank has them, and every z: without penalties nothing need collapse.

    Parameters
    ----------
    Y : (M, n) or (M,) array or tensor
    W : (n, d) array or tensor
        W, of rank n.
    b : (n,) array or tensor, optional
        Bias; 0 if not given.
    rest : (M, d) array or tensor, optional
        z, whose part outside the row space of W is added; 0 if not given, which gives the features of least norm.

    Returns
    -------
    (M, d) float64 array

    Raises
    ------
    ValueError
        W does not have rank n, or shapes do not fit together.
    TypeError
        What is given is no real array.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), theorem 4.3.

    Examples
    --------
    >>> interpolating_features([2.0, 4.0], [[1.0, 0.0]], rest=np.ones((2, 2))).tolist()
    [[2.0, 1.0], [4.0, 1.0]]
    """
    weights, epsilon = as_matrix(W, "W")
    n, d = weights.shape
    targets = as_matrix(Y, "Y", vector_is_column=True)[0]
    offset = np.zeros(n) if b is None else as_float64(b, "b")[0]
    extra = np.zeros((len(targets), d)) if rest is None else as_matrix(rest, "rest")[0]
    for name, shape, expected in (
        ("Y", targets.shape, (len(targets), n)),
        ("b", offset.shape, (n,)),
        ("rest", extra.shape, (len(targets), d)),
    ):
        if shape != expected:
            msg = f"{name} has shape {shape}; {expected} is expected with W of shape {weights.shape}"
            raise ValueError(msg)
    left, singular_values, rows = np.linalg.svd(weights, full_matrices=False)
    if n > d or singular_values[-1] <= max(n, d) * epsilon * singular_values[0]:
        msg = f"W of shape {weights.shape} does not have rank {n}: some targets cannot be fitted"
        raise ValueError(msg)
    fitted = ((targets - offset) @ left / singular_values) @ rows
    return np.asarray(fitted + extra - extra @ rows.T @ rows)
