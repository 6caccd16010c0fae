"""Residuals of training losses, against torch's gradients."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

from nrc_fast.metrics.training_losses import FORMULAS, sigmoid, softmax, training_loss


def gradients(name: str, f: Any, y: Any, delta: float) -> Any:
    """``-dl/df`` of torch's own loss, summed over rows and outputs."""
    import torch

    functional = torch.nn.functional
    losses: dict[str, Any] = {
        "squared": lambda a, b: 0.5 * functional.mse_loss(a, b, reduction="sum"),
        "huber": lambda a, b: functional.huber_loss(a, b, reduction="sum", delta=delta),
        "absolute": lambda a, b: functional.l1_loss(a, b, reduction="sum"),
        "cross_entropy": lambda a, b: functional.cross_entropy(a, b, reduction="sum"),
        "logistic": lambda a, b: functional.binary_cross_entropy_with_logits(a, b, reduction="sum"),
    }
    outputs = torch.tensor(f, requires_grad=True)
    losses[name](outputs, torch.tensor(y)).backward()
    return -outputs.grad.numpy()


def targets_of(name: str, rng: Any) -> Any:
    if name == "cross_entropy":
        return rng.dirichlet(np.ones(4), 30)
    return rng.random((30, 4)) if name == "logistic" else 2.0 * rng.standard_normal((30, 4))


@pytest.mark.parametrize("name", list(FORMULAS))
@pytest.mark.parametrize("delta", [0.3, 1.0])
def test_residuals_are_the_gradients_of_torch(name: Any, delta: float) -> None:
    rng = np.random.default_rng(0)
    y = targets_of(name, rng)
    f = np.concatenate([3.0 * rng.standard_normal((28, 4)), np.array([[900.0, -900.0, 0.0, 5.0], [1e-9, 0, 40, -40]])])
    loss = training_loss(name, delta)
    found = loss.residuals(f, loss.targets(y, 4))
    np.testing.assert_allclose(found, gradients(name, f, y, delta), rtol=1e-12, atol=1e-15)
    assert loss.name == name


@pytest.mark.parametrize("name", ["squared", "huber", "cross_entropy", "logistic"])
def test_residuals_move_no_farther_than_the_outputs(name: Any) -> None:
    rng = np.random.default_rng(1)
    loss = training_loss(name)
    y = loss.targets(targets_of(name, rng), 4)
    f = 3.0 * rng.standard_normal((30, 4))
    for size in (1e-6, 0.1, 3.0):
        moved = size * rng.standard_normal((30, 4))
        apart = np.linalg.norm(loss.residuals(f + moved, y) - loss.residuals(f, y), axis=1)
        assert (apart <= loss.steepness * np.linalg.norm(moved, axis=1) + 1e-14).all()


def test_labels_become_rows_with_a_one() -> None:
    loss = training_loss("cross_entropy")
    labels, f = np.array([[2.0], [0.0], [1.0]]), np.random.default_rng(2).standard_normal((3, 3))
    chosen = np.eye(3)[[2, 0, 1]]
    np.testing.assert_array_equal(loss.targets(labels, 3), chosen)
    np.testing.assert_array_equal(loss.residuals(f, loss.targets(labels, 3)), loss.residuals(f, chosen))
    for wrong, shown in ((3.0, "3"), (-1.0, "-1"), (0.5, "0.5")):
        with pytest.raises(ValueError, match=f"^Y holds {shown}; classes 0 to 2 are expected$"):
            loss.targets(np.array([[0.0], [wrong]]), 3)
    for wrong_rows in ([[0.5, 0.6, 0.5]], [[1.5, -0.5, 0.0]]):
        with pytest.raises(ValueError, match="no probabilities"):
            loss.targets(np.array(wrong_rows), 3)


def test_a_function_is_a_loss_too() -> None:
    def cubic(f: Any, y: Any) -> Any:
        return (y - f) ** 3

    loss = training_loss(cubic)
    assert loss.name == "function cubic"
    assert math.isnan(loss.steepness)
    assert loss.residuals(np.zeros((1, 2)), np.array([[2.0, -1.0]])).tolist() == [[8.0, -1.0]]
    with pytest.raises(ValueError, match=r"<lambda> gives shape \(1,\); -dl/df of outputs of shape \(1, 2\)"):
        training_loss(lambda f, y: (y - f)[:, 0]).residuals(np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="numbers that are not finite"):
        training_loss(lambda f, y: (y - f) * np.nan).residuals(np.zeros((1, 2)), np.zeros((1, 2)))


def test_unknown_losses_are_refused() -> None:
    unknown: Any = "hinge"
    with pytest.raises(ValueError, match=r"loss is 'hinge'; 'squared', .* are known, or a function"):
        training_loss(unknown)
    number: Any = 3
    with pytest.raises(TypeError, match="loss is a int; a name or a function"):
        training_loss(number)
    for delta in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="a positive number is expected"):
            training_loss("huber", delta)


def test_a_loss_of_torch_is_no_function_of_residuals() -> None:
    import torch

    losses: list[Any] = [torch.nn.functional.mse_loss, torch.nn.MSELoss()]
    for loss in losses:
        with pytest.raises(TypeError, match=r"(?s)loss function \w+ cannot be called on arrays of numpy .*-dl/df"):
            training_loss(loss).residuals(np.ones((3, 2)), np.ones((3, 2)))


def test_probabilities_and_answers() -> None:
    f = np.array([[800.0, -800.0, 0.0], [1e-3, 40.0, -40.0]])
    with mpmath.workdps(40):
        powers = [[mpmath.exp(value) for value in row] for row in f.tolist()]
        ones = [[float(power / (1 + power)) for power in row] for row in powers]
        shares = [[float(power / mpmath.fsum(row)) for power in row] for row in powers]
    np.testing.assert_allclose(sigmoid(f), ones, rtol=1e-14)
    np.testing.assert_allclose(softmax(f), shares, rtol=1e-14)
