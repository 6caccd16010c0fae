"""The nrc_fast:: operators on a CUDA device, emulated and real, against those of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import cuda_core, on_device

from nrc_fast import torch_ops

EPSILON = 2.0**-52


@pytest.fixture(params=["emulated", "card"])
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Places a tensor on the device under test."""
    package = on_device.device_package(request.param, cuda_core, monkeypatch)
    return package.placed


def host(tensor: Any) -> Any:
    return tensor.detach().cpu().as_subclass(torch.Tensor)


def draw(seed: int, rows: int = 40, d: int = 6, dtype: str = "float64") -> Any:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((rows, d)) + 1.0).to(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_gram(on: Any, dtype: str, unit_rows: bool, shifted: bool) -> None:
    H = draw(0, dtype=dtype)
    shift = torch.linspace(-1.0, 1.0, 6) if shifted else None
    found = torch_ops.gram(on(H), None if shift is None else on(shift), unit_rows=unit_rows)
    expected = torch_ops.gram(H.double(), shift, unit_rows=unit_rows)
    unit = EPSILON if dtype == "float64" else 2.0**-22
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.is_cuda
        assert ours.dtype == torch.float64
        assert (host(ours) - theirs).abs().max() <= 16 * unit * theirs.abs().max()
    assert torch.equal(host(found[0]), host(found[0]).T)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_gram_of_float32_rows_of_any_size(on: Any, scale: float) -> None:
    H = (draw(1) * scale).float()
    found, expected = host(torch_ops.gram(on(H))[0]), H.double().T @ H.double()
    assert (found - expected).abs().max() <= 2.0**-20 * expected.abs().max()


@pytest.mark.parametrize("rows", ["unit", "raw"])
@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize("shifted", [False, True])
def test_residual_and_its_gradients(on: Any, rows: str, k: int, shifted: bool) -> None:
    H, B = draw(2), draw(3, rows=k)
    shift = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64) if shifted else None
    results = []
    for place in (on, lambda tensor: tensor.clone()):
        inputs = [place(tensor).requires_grad_() for tensor in (H, B, shift) if tensor is not None]
        residuals = torch_ops.residual(*inputs, rows=rows)
        (residuals * place(torch.linspace(0.5, 1.5, 40, dtype=torch.float64))).sum().backward()
        results.append([residuals, *(tensor.grad for tensor in inputs)])
    assert results[0][0].is_cuda
    for ours, theirs in zip(*results, strict=True):
        expected = theirs.detach().numpy()
        allowed = 256 * EPSILON * np.abs(expected).max(initial=1.0)
        assert np.abs(host(ours).numpy() - expected).max(initial=0.0) <= allowed


def test_gradients_of_the_gram(on: Any) -> None:
    H = draw(4)
    results = []
    for place in (on, lambda tensor: tensor.clone()):
        rows = place(H).requires_grad_()
        gram, sums = torch_ops.gram(rows, unit_rows=True)
        (gram.square().sum() + sums.sum()).backward()
        results.append(rows.grad)
    assert (host(results[0]) - results[1]).abs().max() <= 256 * EPSILON * results[1].abs().max()


def test_unit_rows_of_any_size(on: Any) -> None:
    H = draw(5)
    H[3], H[5], H[7] = H[3] * 1e200, H[5] * 1e-200, 0.0
    B = draw(6, rows=2)
    found, expected = host(torch_ops.residual(on(H), on(B))), torch_ops.residual(H, B)
    assert (found - expected).abs().max() <= 64 * EPSILON
    assert found[7] == 0.0


def test_what_is_not_finite_gives_nan_and_nothing_else_does(on: Any) -> None:
    H, B = draw(7), draw(8, rows=2)
    expected = torch_ops.residual(H, B)
    H[4, 1], H[9, 0] = torch.nan, torch.inf
    for rows in ("unit", "raw"):
        found = host(torch_ops.residual(on(H), on(B), rows=rows))
        assert found.isnan().nonzero()[:, 0].tolist() == [4, 9], rows
    kept = ~found.isnan()
    assert (host(torch_ops.residual(on(H), on(B)))[kept] - expected[kept]).abs().max() <= 64 * EPSILON
    gram, sums = torch_ops.gram(on(H))
    assert host(gram).isnan().all()
    assert host(sums).isnan().all()


def test_components_and_losses(on: Any) -> None:
    H, W = draw(9), draw(10, rows=2)
    basis = torch_ops.principal_basis(on(H), 2)
    assert basis.is_cuda
    expected = torch_ops.principal_basis(H, 2)
    assert (host(basis) - expected).abs().max() <= 1e-12
    for convention in ("nrc24", "id25", "variance"):
        found = torch_ops.nrc1_loss(on(H), basis, convention=convention)
        assert host(found).item() == pytest.approx(
            torch_ops.nrc1_loss(H, expected, convention=convention).item(), rel=1e-12
        )
        found = torch_ops.nrc2_loss(on(H), on(W), convention=convention)
        assert host(found).item() == pytest.approx(torch_ops.nrc2_loss(H, W, convention=convention).item(), rel=1e-12)


def test_no_rows_and_a_shift_of_the_host(on: Any) -> None:
    H = draw(11)
    assert host(torch_ops.gram(on(H[:0]))[0]).abs().max() == 0.0
    assert torch_ops.residual(on(H[:0]), on(H[:2])).shape == (0,)
    with pytest.raises(RuntimeError, match="shift lies on the CPU and features on cuda:0"):
        torch_ops.residual(on(H), on(H[:2]), H[0])


# ---- what only a card can show ----


@pytest.fixture
def card() -> None:
    cuda_core.Card()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own compiler
@pytest.mark.usefixtures("card")
def test_operators_pass_opcheck_and_compile_on_a_card() -> None:
    H, B = draw(12).cuda().requires_grad_(), draw(13, rows=2).cuda().requires_grad_()
    torch.library.opcheck(torch.ops.nrc_fast.gram.default, (H,))
    torch.library.opcheck(torch.ops.nrc_fast.residual.default, (H, B))
    compiled = torch.compile(lambda h, b: torch_ops.residual(h, b).sum(), fullgraph=True)
    assert torch.equal(compiled(H, B), torch_ops.residual(H, B).sum())


@pytest.mark.usefixtures("card")
def test_updates_are_captured_in_a_graph_and_replayed_on_a_card() -> None:
    import nrc_fast as nrc

    H = torch.zeros(50, 6, device="cuda")
    batches = [draw(seed, rows=50, dtype="float32") for seed in range(4)]
    statistics = nrc.FeatureStatistics(6)
    H.copy_(batches[0])
    statistics.update(H)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        statistics.update(H)
    for seen, batch in enumerate(batches[1:], start=1):
        H.copy_(batch)
        graph.replay()
        assert statistics.count == 50 * (1 + seen)
    expected = nrc.FeatureStatistics(6)
    for batch in batches:
        expected.update(batch)
    assert statistics.count == 200
    assert np.abs(statistics.covariance - expected.covariance).max() <= 1e-5


@pytest.mark.usefixtures("card")
def test_the_streams_of_the_caller_are_used_on_a_card() -> None:
    import nrc_fast as nrc

    H = draw(14, rows=200_000, d=64, dtype="float32").cuda()
    expected = nrc.FeatureStatistics(64).update(H).covariance
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # Long work ahead on that stream: sums that did not wait for it would see zeros.
        late = torch.zeros_like(H)
        torch.cuda._sleep(50_000_000)
        late.copy_(H)
        found = nrc.FeatureStatistics(64).update(late).covariance
    assert np.array_equal(found, expected)


@pytest.mark.usefixtures("card")
def test_a_second_card_is_used_while_the_first_is_current() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one card")
    import nrc_fast as nrc

    H = draw(15, dtype="float32")
    report = nrc.measure(H.to("cuda:1"), n=2)
    assert report.backend.startswith("cuda:1")
    assert torch.cuda.current_device() == 0
    assert report.nrc1 == nrc.measure(H.cuda(), n=2).nrc1
