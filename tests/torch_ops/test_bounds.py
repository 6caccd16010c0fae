"""Bounds of loss terms beside the losses to thirty digits, and losses that are the same with and without them."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from support.double_double import Pairs
from support.eigenpairs import row_space

import nrc_fast as nrc
from nrc_fast.testing import reference_rows

torch = pytest.importorskip("torch")

from nrc_fast.torch_ops import nrc1_loss, nrc2_loss, principal_basis  # noqa: E402 - torch may be missing

NAMES = tuple(nrc.CONVENTIONS)
MOST = 100.0  # times the error that a bound is in the median


def features(seed: int, dtype: str) -> Any:
    """Rows near a plane, of some size, with or without a mean."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    count, d, noise = int(rng.integers(5, 200)), int(rng.integers(3, 40)), 10.0 ** rng.uniform(-8, 0)
    strong, frame, rest = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((count, 2), (2, d), (count, d))
    )
    offset = 10.0 ** rng.uniform(-1, 3) if seed % 2 else 0.0
    return (strong @ frame + noise * rest + offset).to(getattr(torch, dtype))


def energy(rows: Pairs) -> Decimal:
    flat = Pairs(rows.high.ravel(), rows.low.ravel())
    return (flat * flat).sum(0).decimals()[0]


def exact(H: Any, basis: Any, name: str) -> Decimal:
    convention, rows = nrc.CONVENTIONS[name], Pairs(reference_rows(H))
    count, d = rows.shape
    if convention.centered_rows:
        rows = rows - (rows.sum(0) / Pairs(np.full(d, float(count))))[np.newaxis]
    if convention.unit_rows:
        rows = rows / (rows * rows).sum(1).root()[:, np.newaxis]
    space, left = row_space(Pairs(reference_rows(basis))), rows
    for _ in range(2):
        left = left - (left @ space.T) @ space
    return energy(left) / (energy(rows) if convention.relative else count)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_losses_within_their_bounds(name: str, dtype: str) -> None:
    ratios = []
    for seed in range(6):
        H = features(seed, dtype)
        W = torch.randn(2, H.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        if seed % 3 == 0 and dtype != "bfloat16":
            W[1] = W[0] + 1e-4 * W[1]  # ill-conditioned
        W = W.to(H.dtype)
        components = principal_basis(H, 2, centered=nrc.CONVENTIONS[name].centered_basis)
        for loss, basis in ((nrc1_loss, components), (nrc2_loss, W)):
            value, bound = loss(H, basis, convention=name, return_bound=True)
            error = abs(Decimal(value.item()) - exact(H, basis, name))
            assert error <= Decimal(bound.item())
            if error:
                ratios.append(float(Decimal(bound.item()) / error))
    assert np.median(ratios) < MOST


@pytest.mark.parametrize("name", NAMES)
def test_a_bound_changes_nothing(name: str) -> None:
    H, W = features(4, "float32").requires_grad_(), torch.randn(3, features(4, "float32").shape[1], requires_grad=True)
    for loss, basis, inputs in ((nrc2_loss, W, (H, W)), (nrc1_loss, principal_basis(H, 2), (H,))):
        alone = loss(H, basis, convention=name)
        value, bound = loss(H, basis, convention=name, return_bound=True)
        assert torch.equal(alone, value)
        assert not bound.requires_grad
        assert (bound.dtype, bound.shape) == (torch.float64, ())
        for one, other in zip(torch.autograd.grad(alone, inputs), torch.autograd.grad(value, inputs), strict=True):
            assert torch.equal(one, other)


def test_what_definitions_leave_open() -> None:
    H, W = features(1, "float64"), torch.randn(2, features(1, "float64").shape[1], dtype=torch.float64)
    for rows, name in ((H[:0], "nrc24"), (0.0 * H, "variance")):
        value, bound = nrc2_loss(rows, W, convention=name, return_bound=True)
        assert math.isnan(value.item())
        assert math.isnan(bound.item())
    assert [part.item() for part in nrc2_loss(0.0 * H, W, return_bound=True)] == [0.0, 0.0]
    value, bound = nrc2_loss(H, 0.0 * W, return_bound=True)
    assert abs(value.item() - 1.0) <= bound.item() < 1e-13
    value, bound = nrc2_loss(H * 1e200, W, convention="raw", return_bound=True)
    assert not math.isfinite(value.item())
    assert not math.isfinite(bound.item())


def test_bounds_compile_and_pass_opcheck() -> None:
    H, W = features(2, "float32"), torch.randn(2, features(2, "float32").shape[1])
    options = {"centered": True, "unit_rows": True, "relative": False}
    value = nrc2_loss(H, W, convention="id25")
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.nrc_fast.residual_bound.default, (value, H, W), options, test_utils=checks)

    def both(H: Any, W: Any) -> Any:
        return nrc2_loss(H, W, convention="id25", return_bound=True)

    compiled = torch.compile(both, fullgraph=True, backend="eager")(H, W)
    assert all(torch.equal(one, other) for one, other in zip(compiled, both(H, W), strict=True))
    with pytest.raises(NotImplementedError, match="bounds have no gradient"):
        torch.ops.nrc_fast.residual_bound(value, H.requires_grad_(), W, **options).backward()
