"""Torch operators: values against float64 references, gradients against closed forms and finite differences."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.double_double import Pairs

from nrc_fast.testing import reference_gram, reference_rows

torch = pytest.importorskip("torch")

from nrc_fast import torch_ops  # noqa: E402 - torch may be missing
from nrc_fast.torch_ops import gram, residual  # noqa: E402

EPSILON = 2.0**-52
SIZES = (1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97)
DTYPES = ("float64", "float32", "float16", "bfloat16")


def normal(*shape: int, dtype: str = "float64", seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(getattr(torch, dtype))


def wanted(*tensors: Any) -> tuple[Any, ...]:
    return tuple(tensor.detach().clone().requires_grad_() for tensor in tensors)


def reference(features: Any, basis: Any, shift: Any = None, rows: str = "unit") -> tuple[Pairs, ...]:
    """Rows that are projected, what is left of them, and the norms that they were divided by, in pairs of float64."""
    x = Pairs(reference_rows(features))
    if shift is not None:
        x = x - reference_rows(shift)
    lengths = Pairs(np.ones(len(x)))
    if rows == "unit":
        lengths = (x * x).sum(axis=1).root()
        lengths[lengths == 0.0] = 1.0
        x = x / lengths[:, np.newaxis]
    U = orthonormal_rows(reference_rows(basis))
    return x, x - (x @ U.T) @ U, lengths


def orthonormal_rows(basis: NDArray[np.float64]) -> Pairs:
    """Orthonormal vectors with the span of independent rows, in pairs of float64."""
    return _gram_schmidt(basis.tobytes(), basis.shape)


@functools.lru_cache(maxsize=2)  # the same ones serve rows of many numbers
def _gram_schmidt(numbers: bytes, shape: tuple[int, int]) -> Pairs:
    found = Pairs(np.zeros(shape))
    for k, row in enumerate(Pairs(np.frombuffer(numbers).reshape(shape))):
        before, rest = found[:k], row
        for _ in range(2):
            rest = rest - (before @ rest) @ before
        found[k] = rest / (rest * rest).sum().root()
    return found


def check_residual(features: Any, basis: Any, shift: Any = None) -> None:
    d = features.shape[1]
    # Coefficients and squares are random walks over the columns; the span is as exact as the condition allows.
    singular_values = np.linalg.svd(reference_rows(basis), compute_uv=False)
    condition = singular_values[0] / singular_values[-1] if len(singular_values) else 1.0
    tolerance = EPSILON * (8.0 + d**0.5) * condition
    for rows in ("raw", "unit"):
        found = residual(features, basis, shift, rows=rows)
        assert found.dtype == torch.float64
        assert found.shape == features.shape[:1]
        x, rest, _ = reference(features, basis, shift, rows)
        error = abs(found.numpy() - (rest * rest).sum(axis=1))
        assert np.all(error <= tolerance * (x * x).sum(axis=1)), rows


# ---- values ----


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("d", SIZES)
def test_residuals_on_every_instruction_set(d: int) -> None:
    for count in (0, 1, 2, 3, 7, 16, 65):
        for k in sorted({0, 1, min(3, d), d}):
            check_residual(normal(count, d), normal(k, d, seed=k + 1), normal(d, seed=99))


@pytest.mark.parametrize("dtype", DTYPES)
def test_residuals_of_every_dtype_and_stride(dtype: str) -> None:
    wide = normal(66, 66, dtype=dtype)
    for features in (wide, wide[::2, ::3], wide.T, wide[1:].flip(0), wide[:1].expand(5, 66), wide[3:, 1:]):
        d = features.shape[1]
        check_residual(features, normal(2, d, dtype=dtype, seed=1), normal(d, dtype=dtype, seed=2))
        check_residual(features, normal(d, 2, dtype="float32", seed=1).T)


def test_residual_of_long_rows_in_many_blocks() -> None:
    check_residual(normal(3000, 97, dtype="float32"), normal(5, 97, seed=1), normal(97, seed=2))


@pytest.mark.parametrize("noise", [1e-3, 1e-7, 1e-9])
def test_residuals_near_collapse_keep_their_digits(arrays: Any, noise: float) -> None:
    basis = arrays.orthonormal(3, 65, 0)
    features = torch.from_numpy(arrays.near_subspace(200, basis, noise, 1))
    for rows in ("raw", "unit"):
        x, rest, _ = reference(features, torch.from_numpy(basis), rows=rows)
        exact = (rest * rest).sum(axis=1)
        shares = (exact / (x * x).sum(axis=1)).astype(np.float64)
        found = residual(features, torch.from_numpy(basis), rows=rows).numpy()
        # The basis is turned by a few roundings on its way through a singular value decomposition.
        tolerance = [arrays.collapse_tolerance(4.0 * EPSILON, 3, float(share)) for share in shares]
        assert np.all(abs(found - exact) <= np.array(tolerance) * exact)


def test_basis_of_weights_of_any_rank_and_scale() -> None:
    features, basis = normal(20, 7), normal(2, 7, seed=1)
    mixed = normal(4, 2, seed=2) @ basis
    expected = residual(features, basis)
    for scale in (1.0, 1e-200, 1e200):
        torch.testing.assert_close(residual(features, scale * mixed), expected, rtol=0.0, atol=100 * EPSILON)
    assert residual(features, torch.zeros(2, 7)).tolist() == pytest.approx([1.0] * 20, rel=4 * EPSILON)


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-150, 1e150, 1e200, 1e307])
def test_unit_rows_of_any_scale(scale: float) -> None:
    features = torch.tensor([[3.0, 4.0], [0.0, 0.0], [4.0, 3.0]], dtype=torch.float64) * scale
    basis = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    rounding = 1e-320 / scale * 1e-3 + 8 * EPSILON  # subnormal numbers have few digits
    exact = torch.tensor([0.64, 0.0, 0.36], dtype=torch.float64)
    torch.testing.assert_close(residual(features, basis), exact, rtol=0.0, atol=rounding)
    shifted = residual(features, basis, torch.full((2,), scale, dtype=torch.float64))
    expected = torch.tensor([9 / 13, 0.5, 4 / 13], dtype=torch.float64)
    torch.testing.assert_close(shifted, expected, rtol=0.0, atol=rounding)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("precision", ["high", "highest"])
def test_gram_is_symmetric_and_that_of_the_reference(dtype: str, precision: str) -> None:
    single = dtype != "float64" and precision == "high"
    for count in (0, 1, 2, 17, 600):
        for d in (1, 2, 15, 16, 17, 33, 97):
            features, shift = normal(count, d, dtype=dtype), normal(d, dtype=dtype, seed=1)
            tolerance = (2.0**-23 if single else EPSILON) * (6.0 + min(count, 256 if single else count) ** 0.5)
            for unit in (False, True):
                found, sums = gram(features, shift, unit_rows=unit, precision=precision)
                assert found.dtype == sums.dtype == torch.float64
                x, _, lengths = reference(features, torch.zeros(0, d), shift, "unit" if unit else "raw")
                sizes = np.abs(x.astype(float))
                assert torch.equal(found, found.T)
                assert np.all(np.abs(found.numpy() - reference_gram(x.astype(float))) <= tolerance * (sizes.T @ sizes))
                unscaled = x * lengths[:, np.newaxis]
                error = abs(sums.numpy() - unscaled.sum(axis=0))
                assert np.all(error <= tolerance * np.abs(unscaled.astype(float)).sum(axis=0))


# ---- gradients ----


@pytest.mark.parametrize("rows", ["raw", "unit"])
@pytest.mark.parametrize("k", [0, 1, 3, 5])
def test_gradients_of_residuals_are_those_of_finite_differences(rows: str, k: int) -> None:
    features, basis, shift = wanted(normal(6, 5), normal(k, 5, seed=1), normal(5, seed=2))
    assert torch.autograd.gradcheck(lambda *inputs: residual(*inputs, rows=rows), (features, basis, shift))
    assert torch.autograd.gradcheck(lambda *inputs: residual(*inputs, rows=rows), (features, basis))
    assert torch.autograd.gradcheck(lambda B: residual(features.detach(), B, rows=rows), (basis,))


@pytest.mark.parametrize("unit_rows", [False, True])
def test_gradients_of_the_gram_are_those_of_finite_differences(unit_rows: bool) -> None:
    features, shift = wanted(normal(6, 5), normal(5, seed=2))
    assert torch.autograd.gradcheck(lambda *inputs: gram(*inputs, unit_rows=unit_rows), (features, shift))
    assert torch.autograd.gradcheck(lambda H: gram(H, unit_rows=unit_rows), (features,))
    assert torch.autograd.gradcheck(lambda H: gram(H, unit_rows=unit_rows)[1], (features,))


def test_gradient_of_the_basis_at_deficient_rank() -> None:
    """Changes that keep the rank: both factors of the weights move."""
    left, right = wanted(normal(4, 2, seed=1), normal(2, 5, seed=2))
    assert torch.autograd.gradcheck(lambda A, B: residual(normal(6, 5), A @ B), (left, right))


def gradients(features: Any, basis: Any, shift: Any, rows: str, upstream: Any) -> tuple[Pairs, ...]:
    """The formulas of the docstring for orthonormal rows, in pairs of float64."""
    x, r, lengths = reference(features, basis, shift, rows)
    U = orthonormal_rows(reference_rows(basis))
    g = 2.0 * reference_rows(upstream)[:, np.newaxis]
    grad = g * r
    if rows == "unit":
        grad = (grad - x * (x * grad).sum(axis=1, keepdims=True)) / lengths[:, np.newaxis]
    return grad, -(g * (x @ U.T)).T @ r, -grad.sum(axis=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", ["raw", "unit"])
def test_gradients_follow_the_formulas_in_many_blocks(arrays: Any, rows: str, dtype: str) -> None:
    features, shift = normal(3000, 65, dtype=dtype)[:, ::2], normal(33, dtype=dtype, seed=1)
    basis, upstream = torch.from_numpy(arrays.orthonormal(3, 33, 0)), normal(3000, seed=3)
    inputs = features.detach().requires_grad_(), *wanted(basis, shift)
    residual(*inputs, rows=rows).backward(upstream)
    for tensor, expected in zip(inputs, gradients(features, basis, shift, rows, upstream), strict=True):
        assert tensor.grad.dtype == tensor.dtype
        assert tensor.grad.shape == tensor.shape
        rounding = 0.5 * torch.finfo(tensor.dtype).eps  # of a result in the dtype of the input
        found = reference_rows(tensor.grad)
        scale = np.abs(expected.astype(np.float64)).max()
        assert abs(found - expected).astype(np.float64).max() <= (rounding + EPSILON * 3000**0.5) * scale


@pytest.mark.parametrize("noise", [1e-3, 1e-7, 1e-9])
@pytest.mark.parametrize("rows", ["raw", "unit"])
def test_gradients_near_collapse_do_not_cancel(arrays: Any, rows: str, noise: float) -> None:
    basis = torch.from_numpy(arrays.orthonormal(3, 33, 0))
    features = torch.from_numpy(arrays.near_subspace(100, basis.numpy(), noise, 1))
    inputs = wanted(features, basis)
    residual(*inputs, rows=rows).sum().backward()
    expected = gradients(features, basis, None, rows, torch.ones(100))
    # Of the length of the row, a few roundings; the gradient itself is about 2 * noise times it.
    tolerance = EPSILON * (8.0 + 33**0.5)
    x, _, lengths = reference(features, basis, None, rows)
    scale = np.linalg.norm(x.astype(float), axis=1) / lengths.astype(float)
    errors = [(part.grad.numpy() - best).astype(float) for part, best in zip(inputs, expected[:2], strict=True)]
    assert np.all(np.linalg.norm(errors[0], axis=1) <= 2.0 * tolerance * scale)
    assert np.linalg.norm(errors[1]) <= 2.0 * tolerance * np.sum(x.astype(float) ** 2)
    # It is orthogonal to the basis, which the derivative of ||x||^2 - ||U x||^2 is not.
    assert np.abs(inputs[1].grad.numpy() @ basis.numpy().T).max() <= 2.0 * tolerance * np.sum(x.astype(float) ** 2)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1.0, 1e200])
def test_gradients_at_zero_rows_and_rows_of_any_scale(scale: float) -> None:
    features = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64) * scale
    inputs = wanted(features, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    residual(*inputs).sum().backward()
    # f = h2^2/||h||^2, df/dh = 2 h1 h2 (-h2, h1)/||h||^4
    expected = torch.tensor([[-96.0, 72.0], [0.0, 0.0]], dtype=torch.float64) / 625
    torch.testing.assert_close(inputs[0].grad * scale, expected, rtol=32 * EPSILON, atol=0.0)
    torch.testing.assert_close(inputs[1].grad[0, 1].item(), -0.96, rtol=32 * EPSILON, atol=0.0)
    (unit,) = wanted(features)
    gram(unit, unit_rows=True)[0][0, 0].backward()
    torch.testing.assert_close(unit.grad * scale, -expected, rtol=32 * EPSILON, atol=0.0)


def test_no_rows_have_gradients_without_rows() -> None:
    features, basis = wanted(normal(0, 5), normal(2, 5))
    (residual(features, basis).sum() + gram(features)[0].sum()).backward()
    assert features.grad.shape == (0, 5)
    assert torch.equal(basis.grad, torch.zeros(2, 5, dtype=torch.float64))


# ---- as torch operators ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"rows": "raw"}])
def test_opcheck_of_residual(dtype: str, options: dict[str, Any]) -> None:
    operator = torch.ops.nrc_fast.residual.default
    features, basis, shift = wanted(normal(9, 4, dtype=dtype), normal(2, 4, dtype=dtype), normal(4, dtype=dtype))
    for arguments in (
        (features, basis, shift),
        (features, basis),
        (features.detach(), basis),
        (features.detach()[:0], basis),
    ):
        torch.library.opcheck(operator, arguments, options)
    torch.library.opcheck(operator, (normal(8, 6, dtype=dtype)[::2, ::2], normal(0, 3)), options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"unit_rows": True, "precision": "highest"}])
def test_opcheck_of_gram(dtype: str, options: dict[str, Any]) -> None:
    operator = torch.ops.nrc_fast.gram.default
    features, shift = wanted(normal(9, 4, dtype=dtype), normal(4, dtype=dtype))
    for arguments in ((features, shift), (features,), (features.detach(), shift), (features.detach()[:0], None)):
        torch.library.opcheck(operator, arguments, options)
    torch.library.opcheck(operator, (normal(8, 6, dtype=dtype)[::2, ::2],), options)


def test_opcheck_of_the_components_and_the_gradients() -> None:
    features, basis, shift = normal(9, 4), normal(2, 4), normal(4)
    operators = torch.ops.nrc_fast
    torch.library.opcheck(operators.principal_basis.default, (features, 3), {"centered": False})
    torch.library.opcheck(operators.residual_backward.default, (normal(9), features, basis, shift, "unit"))
    torch.library.opcheck(operators.gram_backward.default, (normal(4, 4), normal(4), features, shift, True))


def training_step(H: Any, W: Any) -> Any:
    penalties = [torch_ops.nrc2_loss(H, W, convention=name) for name in ("nrc24", "id25", "variance")]
    basis = torch_ops.principal_basis(H, 2)
    return torch.stack(penalties).sum() + torch_ops.nrc1_loss(H, basis) + gram(H)[0].trace()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiles_to_one_graph() -> None:
    compiled = torch.compile(training_step, backend="aot_eager", fullgraph=True)
    for count in (8, 11):  # the second with sizes that are symbols
        inputs, others = (wanted(normal(count, 5, dtype="float32"), normal(2, 5, dtype="float32")) for _ in range(2))
        loss, expected = compiled(*inputs), training_step(*others)
        torch.testing.assert_close(loss, expected, rtol=8 * EPSILON, atol=0.0)
        loss.backward()
        expected.backward()
        for tensor, other in zip(inputs, others, strict=True):
            torch.testing.assert_close(tensor.grad, other.grad, rtol=2.0**-22, atol=2.0**-22)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's inductor needs a C++ compiler")
def test_compiles_with_inductor(run_alone: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = """if True:
        import torch
        from nrc_fast.torch_ops import nrc2_loss
        # What the C++ compiler would do beyond the code of this graph.
        torch._inductor.config.cpp_cache_precompile_headers = False
        torch._inductor.config.cpp.simdlen = 1
        def loss(H, W):
            return nrc2_loss(torch.relu(H), W)
        generator = torch.Generator().manual_seed(0)
        H, W = (torch.randn(*shape, generator=generator) for shape in ((16, 5), (2, 5)))
        H.requires_grad_(), W.requires_grad_()
        values = [f(H, W) for f in (loss, torch.compile(loss, fullgraph=True))]
        grads = [torch.autograd.grad(value, (H, W)) for value in values]
        torch.testing.assert_close(values[0], values[1], rtol=2.0**-20, atol=0.0)
        for eager, compiled in zip(*grads):
            torch.testing.assert_close(eager, compiled, rtol=2.0**-20, atol=2.0**-20)
        print("equal")
    """
    result = run_alone(code, TORCHINDUCTOR_COMPILE_THREADS="1", TORCHINDUCTOR_FX_GRAPH_CACHE="0")
    assert result.stdout == "equal\n", result.stderr


def test_tensors_without_values() -> None:
    features, basis = torch.empty(9, 4, device="meta", dtype=torch.bfloat16), torch.empty(2, 4, device="meta")
    residuals = residual(features, basis)
    assert (residuals.device.type, residuals.dtype, residuals.shape) == ("meta", torch.float64, (9,))
    assert [tuple(output.shape) for output in gram(features)] == [(4, 4), (4,)]
    assert torch_ops.principal_basis(features, 2).shape == (2, 4)
    assert torch_ops.nrc2_loss(features, basis, convention="variance").shape == ()
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        elsewhere = torch.empty(9, 4, device="cuda"), torch.empty(2, 4, device="cuda")
        assert residual(*elsewhere).device.type == "cuda"


def test_without_gradients_and_under_autocast() -> None:
    features, basis = normal(9, 4, dtype="float32"), normal(2, 4, dtype="float32", seed=1).requires_grad_()
    expected = residual(features, basis)
    assert expected.requires_grad
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            found = residual(features, basis)
            assert torch_ops.nrc2_loss(features, basis) == expected.mean()
        assert not found.requires_grad
        assert torch.equal(found, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = features @ torch.eye(4)
        assert narrow.dtype == torch.bfloat16
        assert torch.equal(residual(features, basis), expected)
        loss = torch_ops.nrc2_loss(narrow, basis, convention="id25")
    assert torch.equal(loss, torch_ops.nrc2_loss(narrow, basis, convention="id25"))
    loss.backward()
    assert basis.grad.dtype == torch.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_differentiated_says_so() -> None:
    features, basis = wanted(normal(6, 4), normal(2, 4, seed=1))
    for outputs in (residual(features, basis), gram(features)[0]):
        (grad,) = torch.autograd.grad(outputs.sum(), features, create_graph=True)
        with pytest.raises(NotImplementedError, match="cannot be differentiated again"):
            grad.sum().backward()
    with pytest.raises(NotImplementedError, match=r"give features\.detach\(\)"):
        torch.ops.nrc_fast.principal_basis(features, 2).sum().backward()
    assert not torch_ops.principal_basis(features, 2).requires_grad
    H, B = features.detach(), basis.detach()
    for function in (lambda H: residual(H, B), lambda H: gram(H)[0]):
        with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="no forward-mode"):
            function(torch.autograd.forward_ad.make_dual(H, H))
        for transformed in (
            lambda: torch.vmap(function)(normal(3, 6, 4)),  # noqa: B023
            lambda: torch.func.jvp(function, (H,), (H,)),  # noqa: B023
            lambda: torch.func.vjp(function, H),  # noqa: B023
        ):
            with pytest.raises(NotImplementedError, match=r"no rules for torch\.vmap and torch\.func"):
                transformed()


def test_features_changed_in_place_before_the_gradient() -> None:
    features, basis = normal(6, 4), normal(2, 4).requires_grad_()
    loss = residual(features, basis).sum()
    features.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes_and_options_that_do_not_fit(device: str) -> None:
    features, basis = normal(6, 4).to(device), normal(2, 4).to(device)
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: residual(features[0], basis), r"features has shape \(4,\); a matrix"),
        (lambda: residual(features[:, :0], basis[:, :0]), r"features has shape \(6, 0\)"),
        (lambda: residual(features, basis[:, 1:]), r"basis has shape \(2, 3\); \(k, 4\) is expected"),
        (lambda: residual(features, basis[0]), r"basis has shape \(4,\); \(k, 4\) is expected"),
        (lambda: residual(features, basis, basis), r"shift has shape \(2, 4\); \(4,\) is expected"),
        (lambda: residual(features, basis, basis[0, 1:]), r"shift has shape \(3,\); \(4,\) is expected"),
        (lambda: residual(features, basis, rows="centred"), "rows is 'centred'; 'unit' or 'raw'"),
        (lambda: gram(features[0]), r"features has shape \(4,\); a matrix"),
        (lambda: gram(features, basis), r"shift has shape \(2, 4\)"),
        (lambda: gram(features, precision="double"), "precision is 'double'"),
        (lambda: torch_ops.principal_basis(features, 5), "n is 5; it must lie between 1 and d = 4"),
        (lambda: torch_ops.principal_basis(features, 0), "n is 0; it must lie between 1 and d = 4"),
        (lambda: torch_ops.nrc1_loss(features, basis, convention="nrc"), "unknown convention 'nrc'"),
        (lambda: torch_ops.nrc2_loss(features, basis.T, convention="id25"), r"basis has shape \(4, 2\)"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_values_that_do_not_fit() -> None:
    features, basis = normal(6, 4), normal(2, 4)
    bad = features.clone()
    bad[3, 1] = torch.nan
    for call in (lambda: residual(bad, basis), lambda: gram(bad), lambda: torch_ops.principal_basis(bad, 2)):
        with pytest.raises(ValueError, match="1 of 6 rows hold NaN or infinite values, the first is row 3"):
            call()
    with pytest.raises(ValueError, match="basis has 1 values that are not finite"):
        residual(features, bad[2:4])
    with pytest.raises(ValueError, match="shift has 1 values that are not finite"):
        residual(features, basis, bad[3])
    with pytest.raises(TypeError, match="features has dtype int64"):
        residual(torch.ones(3, 4, dtype=torch.int64), basis)
    with pytest.raises(TypeError, match="features is a tensor of layout"):
        residual(features.to_sparse(), basis)
    with pytest.raises(ValueError, match="no samples to measure"):
        torch_ops.principal_basis(features[:0], 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_tensors_reach_the_kernels() -> None:
    features, basis, shift = normal(300, 33), normal(3, 33, seed=1), normal(33, seed=2)
    on_card, on_host = (wanted(*(t.to(device) for t in (features, basis, shift))) for device in ("cuda", "cpu"))
    values = [(residual(*inputs).mean() + gram(inputs[0])[0].trace()) for inputs in (on_card, on_host)]
    torch.testing.assert_close(values[0].cpu(), values[1], rtol=1e-12, atol=0.0)
    for value in values:
        value.backward()
    for tensor, other in zip(on_card, on_host, strict=True):
        assert tensor.grad.device == tensor.device
        torch.testing.assert_close(tensor.grad.cpu(), other.grad, rtol=1e-10, atol=1e-12)
