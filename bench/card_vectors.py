"""Passes of a card that hold rows against a few vectors, with what they must give."""

from __future__ import annotations

from typing import Any

from card import Card
from card_work import OUTPUTS, Work, chunks, dtype_of, orthonormal, positive, row_counts
from limits import Pass

__all__ = ["collapsed_residual", "gram_product", "prediction_error", "residual", "residual_of_rows"]

# Components and vectors; fewer where there are fewer features.
BASIS, VECTORS = 32, 16
# What is left of the energy of collapsed rows: less than the expanded form is kept for, also in float64.
COLLAPSED_SHARE = 1e-4
# Of the energy, which smaller rests, as those of a full basis, are taken for: they are nothing but roundings.
LEAST_SHARE = 1e-6
# Rows whose coefficients are in memory at once, where rows are read twice: fewer than there are.
ROWS_AT_ONCE = 64


# ---- residuals ----


def residual(card: Card, H: Any, *, double_precision: bool) -> Work:
    """Residuals of rows and unit rows on the leading vectors of a basis, for every number of them."""
    return _residuals(card, H, orthonormal(card, H.shape[1], BASIS, seed=2), None, double_precision=double_precision)


def residual_of_rows(card: Card, H: Any) -> Work:
    """The same about a shift, and what is left of each row."""
    basis, shift = orthonormal(card, H.shape[1], BASIS, seed=2), card.zeros(H.shape[1]) + 0.25
    return _residuals(card, H, basis, shift, double_precision=False)


def collapsed_residual(card: Card, H: Any, *, double_precision: bool) -> Work:
    """The same of rows that lie almost in the span of the basis, where squares of coefficients cancel."""
    basis = orthonormal(card, H.shape[1], BASIS, seed=2)
    along = H.double() @ basis.T @ basis
    rows = (along + COLLAPSED_SHARE**0.5 * (H.double() - along)).to(H.dtype)
    return _residuals(card, rows, basis, None, double_precision=double_precision)


def _residuals(card: Card, H: Any, basis: Any, shift: Any, *, double_precision: bool) -> Work:
    """About a shift also those of each row."""
    (rows, d), k = H.shape, len(basis)
    results, counts = {"raw": card.zeros(k + 1), "unit": card.zeros(k + 1)}, row_counts(card, H)
    written = () if shift is None else ("row_residuals", "row_energies")
    results |= {name: card.zeros(rows) for name in written}
    request = card.core.ResidualRequest(
        card.matrix(H),
        basis.data_ptr(),
        k,
        raw_sums=results["raw"].data_ptr(),
        unit_sums=results["unit"].data_ptr(),
        shift=0 if shift is None else shift.data_ptr(),
        **{name: results[name].data_ptr() for name in written},
        double_precision=double_precision,
        counts=counts.numbers.data_ptr(),
    )
    exact = _exact_residuals(card, H, basis, shift)
    call = card.launcher("residual", request)
    arithmetic = "float64" if double_precision or dtype_of(H) == "float64" else "float32"
    passes = [Pass(float(rows) * d * (2 * k + 2), float(rows) * d * H.element_size(), arithmetic)]
    exact = {name: exact[name] for name in results}
    return Work(call, results, exact, counts, passes, written=written, kept=[H, basis, shift])


def _exact_residuals(card: Card, H: Any, basis: Any, shift: Any) -> dict[str, tuple[Any, Any]]:
    """Of the rows' rests, which are formed before they are squared, as squares of coefficients cancel."""
    k = len(basis)
    raw, unit = card.zeros(k + 1), card.zeros(k + 1)
    rests, energies = [], []
    for part in chunks(H):
        X = part if shift is None else part - shift
        coefficients = X @ basis.T
        rests.append((X - coefficients @ basis).square().sum(1))
        energies.append(X.square().sum(1))
        left = card.torch.cat([rests[-1][:, None], coefficients.square().flip(1)], 1).cumsum(1).flip(1)
        raw += left.sum(0)
        unit += (left / positive(energies[-1])[:, None]).sum(0)
    of_rows, sizes = card.torch.cat(rests), card.torch.cat(energies)
    return {
        "raw": (raw, _size(raw, raw[0])),
        "unit": (unit, _size(unit, unit[0])),
        "row_residuals": (of_rows, _size(of_rows, sizes)),
        "row_energies": (sizes, positive(sizes)),
    }


def _size(rests: Any, energies: Any) -> Any:
    """What errors of rests are relative to: their norms times those of the rows."""
    return positive((rests.maximum(LEAST_SHARE * energies) * energies).sqrt())


# ---- products ----


def gram_product(card: Card, H: Any, *, rows_at_once: int = 0) -> Work:
    """A few vectors times the Gram of shifted rows, which is not formed; in two reads with so many rows at once."""
    (rows, d), vectors = H.shape, orthonormal(card, H.shape[1], VECTORS, seed=3)
    k, shift, counts = len(vectors), card.zeros(d) + 0.25, row_counts(card, H)
    results = {"image": card.zeros(k, d), "column_sums": card.zeros(d), "energy": card.zeros(1)}
    request = card.core.ProductRequest(
        card.matrix(H), vectors.data_ptr(), k, rows_at_once=rows_at_once, counts=counts.numbers.data_ptr()
    )
    addresses = {name: result.data_ptr() for name, result in results.items()}
    image, sums, magnitude, energy = card.zeros(k, d), card.zeros(d), card.zeros(k, d), card.zeros(1)
    for part in chunks(H):
        X = part - shift
        image += (X @ vectors.T).T @ X
        magnitude += (X @ vectors.T).abs().T @ X.abs()
        sums += X.sum(0)
        energy += X.square().sum()
    call = card.launcher("gram_product", request, shift=shift.data_ptr(), **addresses)
    exact = {"image": (image, magnitude), "column_sums": (sums, energy.sqrt() * rows**0.5), "energy": (energy, energy)}
    passes = [Pass(4.0 * rows * d * k, float(rows) * d * H.element_size(), "float64")]
    return Work(call, results, exact, counts, passes, kept=[H, vectors, shift])


def prediction_error(card: Card, H: Any, *, wants_products: bool = False) -> Work:
    """Squared errors of a linear model of the rows; or also products of errors and outputs, and two energies."""
    (rows, d), weights = H.shape, orthonormal(card, H.shape[1], OUTPUTS, seed=4)
    n = len(weights)
    bias, Y = card.zeros(n) + 0.5, card.random(rows, n, dtype_of(H), seed=5)
    results, counts = {"errors": card.zeros(n)}, row_counts(card, H)
    if wants_products:
        results["products"] = card.zeros(n * n + 2)
    request = card.core.ProductRequest(card.matrix(H), weights.data_ptr(), n, counts=counts.numbers.data_ptr())
    addresses = {name: result.data_ptr() for name, result in results.items()}
    call = card.launcher("prediction_error", request, bias=bias.data_ptr(), targets=card.matrix(Y), **addresses)
    passes = [Pass(2.0 * rows * d * n, float(rows) * (d + n) * H.element_size(), "float64")]
    exact = _exact_errors(card, H, Y, weights, bias)
    return Work(call, results, {name: exact[name] for name in results}, counts, passes, kept=[H, weights, bias, Y])


def _exact_errors(card: Card, H: Any, Y: Any, weights: Any, bias: Any) -> dict[str, tuple[Any, Any]]:
    """Squares of errors e; products -e (W h)^T, and behind them the sums of ||W h||^2 and ||h||^2."""
    n = len(weights)
    errors, products, squares, energy = card.zeros(n), card.zeros(n, n), card.zeros(n), card.zeros(1)
    for part, targets in zip(chunks(H), chunks(Y), strict=True):
        outputs = part @ weights.T
        e = outputs + bias - targets
        errors += e.square().sum(0)
        products -= e.T @ outputs
        squares += outputs.square().sum(0)
        energy += part.square().sum()
    energies = card.torch.cat([squares.sum()[None], energy])
    sizes = card.torch.outer(errors, squares).sqrt().reshape(-1)
    return {
        "errors": (errors, errors),
        "products": (card.torch.cat([products.reshape(-1), energies]), card.torch.cat([sizes, energies])),
    }
