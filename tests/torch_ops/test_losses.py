"""NRC1 and NRC2 as loss terms: the values of the metrics, gradients by finite differences, and what training does."""

from __future__ import annotations

import math
from typing import Any

import pytest

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc1, reference_nrc2

torch = pytest.importorskip("torch")

from nrc_fast.torch_ops import nrc1_loss, nrc2_loss, principal_basis  # noqa: E402 - torch may be missing

EPSILON = 2.0**-52
NAMES = tuple(nrc.CONVENTIONS)


def features(count: int, d: int, dtype: str = "float64", noise: float = 1.0, seed: int = 0) -> Any:
    """Rows with two strong directions and a mean, and noise in all others."""
    generator = torch.Generator().manual_seed(seed)
    strong, frame, rest, mean = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((count, 2), (2, d), (count, d), (d,))
    )
    return (strong * torch.tensor([3.0, 2.0]) @ frame + noise * rest + 0.3 * mean).to(getattr(torch, dtype))


def weights(n: int, d: int, dtype: str = "float64") -> Any:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(n, d, generator=generator, dtype=torch.float64).to(getattr(torch, dtype))


# ---- values ----


@pytest.mark.usefixtures("many_rows")  # the basis of the loss comes from float32 blocks, as that of many rows does
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("convention", NAMES)
def test_losses_are_the_metrics(convention: str, dtype: str) -> None:
    H, W = features(65, 17, dtype), weights(3, 17, dtype)
    rounding = 2 * EPSILON * (8 + 17**0.5)
    found = nrc2_loss(H, W, convention=convention).item()
    assert found == pytest.approx(nrc.nrc2(H, W, convention=convention), rel=rounding)
    assert found == pytest.approx(reference_nrc2(H, W, convention), rel=rounding)
    centered = nrc.CONVENTIONS[convention].centered_basis
    for n in (1, 2, 5):
        found = nrc1_loss(H, principal_basis(H, n, centered=centered), convention=convention).item()
        # Of the components, and of a mean that the metric takes from float32 blocks.
        bound = nrc.measure(H, n=n, convention=convention).bounds["nrc1"]
        assert abs(found - nrc.nrc1(H, n, convention=convention)) <= bound + rounding * found
        # The basis itself, from a Gram in float32 blocks, is known to about 1e-7 where directions are well apart.
        angle = 1e-10 if dtype == "float64" else 1e-4
        assert found == pytest.approx(reference_nrc1(H, n, convention), rel=angle)


@pytest.mark.parametrize("noise", [1e-5, 1e-7])
@pytest.mark.parametrize("convention", ["raw", "id25", "variance"])
def test_losses_near_collapse_keep_their_digits(convention: str, noise: float) -> None:
    H = features(200, 33, noise=noise)
    if convention == "raw":
        H = H - H.mean(dim=0)
    basis = principal_basis(H, 2)
    exact = reference_nrc1(H, 2, convention)
    assert exact < 100 * noise**2
    tolerance = 64 * EPSILON / noise
    assert nrc1_loss(H, basis, convention=convention).item() == pytest.approx(exact, rel=tolerance)
    exact = reference_nrc2(H, basis, convention)
    assert nrc2_loss(H, basis, convention=convention).item() == pytest.approx(exact, rel=tolerance)


def test_components_are_orthonormal_and_zero_beyond_the_rank() -> None:
    H = features(50, 9, noise=0.0)
    H = H - H.mean(dim=0)
    basis = principal_basis(H, 4)
    assert not basis[2:].any()
    identity = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(basis[:2] @ basis[:2].T, identity, rtol=0.0, atol=8 * EPSILON)
    assert nrc1_loss(H, basis, convention="variance").item() < 1e-28
    uncentered = principal_basis(H + 100.0, 1, centered=False)[0]
    torch.testing.assert_close(uncentered.abs(), torch.full((9,), 1 / 3, dtype=torch.float64), rtol=1e-2, atol=0.0)


def test_what_definitions_leave_open() -> None:
    H, W, none = features(9, 4).requires_grad_(), weights(2, 4).requires_grad_(), torch.zeros(2, 4, requires_grad=True)
    loss = nrc2_loss(H, none)
    loss.backward()
    assert loss.item() == pytest.approx(1.0, rel=8 * EPSILON)
    assert not H.grad.any()
    assert not none.grad.any()
    zeros = torch.zeros(3, 4, requires_grad=True)
    loss = nrc2_loss(zeros, W)
    loss.backward()
    assert loss.item() == 0.0
    assert not zeros.grad.any()
    assert not W.grad.any()
    assert math.isnan(nrc2_loss(zeros, W, convention="variance").item())
    assert math.isnan(nrc2_loss(H[:0], W).item())


# ---- gradients ----


@pytest.mark.parametrize("convention", NAMES)
def test_gradients_are_those_of_finite_differences(convention: str) -> None:
    H, W = features(8, 5).requires_grad_(), weights(2, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: nrc2_loss(*inputs, convention=convention), (H, W))
    basis = principal_basis(H, 2)
    assert torch.autograd.gradcheck(lambda H: nrc1_loss(H, basis, convention=convention), (H,))


def test_a_fixed_basis_is_the_whole_gradient_of_nrc1_under_variance_alone() -> None:
    H = features(12, 5).requires_grad_()

    def whole(H: Any, convention: str) -> Any:
        return nrc1_loss(H, principal_basis(H, 2), convention=convention)

    assert torch.autograd.gradcheck(lambda H: whole(H, "variance"), (H,))
    for convention in ("nrc24", "id25", "raw"):
        assert not torch.autograd.gradcheck(lambda H: whole(H, convention), (H,), raise_exception=False)  # noqa: B023


def test_the_basis_of_nrc1_is_a_constant() -> None:
    H, basis = features(12, 5).requires_grad_(), weights(2, 5).requires_grad_()
    nrc1_loss(H, basis).backward()
    assert H.grad.abs().max() > 0.0
    assert basis.grad is None


# ---- training ----


def trained(weight: float, loss: str) -> tuple[Any, Any, float]:
    """Features, head and error of a network that was trained on MSE + weight * loss."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 6, generator=generator)
    targets = inputs[:, :2] + 0.5 * torch.sin(inputs[:, 2:4])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        hidden = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 16))
        head = torch.nn.Linear(16, 2)
    optimizer = torch.optim.Adam([*hidden.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(300):
        H = hidden(inputs)
        error = torch.nn.functional.mse_loss(head(H), targets)
        optimizer.zero_grad()
        penalty = nrc2_loss(H, head.weight) if loss == "nrc2" else nrc1_loss(H, principal_basis(H, 2))
        (error + weight * penalty).backward()
        optimizer.step()
    return hidden(inputs).detach(), head.weight.detach(), error.item()


@pytest.mark.parametrize("loss", ["nrc1", "nrc2"])
def test_training_with_a_loss_term_collapses_features(loss: str) -> None:
    values, errors = [], []
    for weight in (0.0, 0.1):
        H, W, error = trained(weight, loss)
        value, exact = (
            (nrc.nrc2(H, W), reference_nrc2(H, W)) if loss == "nrc2" else (nrc.nrc1(H, 2), reference_nrc1(H, 2))
        )
        assert value == pytest.approx(exact, rel=1e-5)
        values.append(value)
        errors.append(error)
    assert values[1] < 0.1 * values[0]
    assert errors[1] < 0.05
