"""`balance`: whether neighbouring linear layers are balanced, as they are where training with weight decay ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.libraries import require_library
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.metrics.balances import Bounded, condition, imbalance, product_condition, unit_imbalance
from nrc_fast.metrics.head_balances import times_power
from nrc_fast.reports.balances import Balance, LayerBalance
from nrc_fast.training.linear_chains import Neighbours, linear_layers, linear_neighbours, linear_sequences
from nrc_fast.training.named_layers import find_layer

if TYPE_CHECKING:
    from torch.nn import Linear, Module

__all__ = ["Biases", "balance", "balance_below"]

# Whether weight decay acts on the biases too.
Biases: TypeAlias = Literal["decayed", "free"]


class _Given(NamedTuple):
    """Layers by name, which of them follow one another, and which ends the chain; empty for none."""

    parts: dict[str, _Layer]
    pairs: list[Neighbours]
    last: str


class _Layer(NamedTuple):
    """Weights and bias in float64."""

    weights: FloatArray
    bias: FloatArray | None


def balance(
    model: Module | Sequence[Array],
    layers: Sequence[str | Module] | None = None,
    *,
    G: Array | float | None = None,
    biases: Biases = "decayed",
) -> Balance:
    """Whether neighbouring linear layers are balanced, how well conditioned they are, and what follows for NRC2.

    Where two layers V and W follow one another with nothing between and both decay alike, ``W^T W = V V^T`` at every
    stationary point of the loss, as W M^-1 and M V make the same network for every invertible M. With a ReLU between
    this holds for the diagonals: ``|column j of W|^2 = |row j of V|^2`` for every unit j. Then m layers of a chain have
    one set of singular values, and the condition number of each is that of their product to the power 1/m. Features
    ``h = V g`` of a head W have ``NRC2 <= |W^T W - V V^T|_op mean |g|^2`` under convention raw.

    Parameters
    ----------
    model : torch.nn.Module, or a sequence of (outputs, inputs) arrays or tensors
        A model, whose linear layers are looked for in its ``torch.nn.Sequential`` parts; or the weights of a chain, the
        first layer first.
    layers : sequence of str or torch.nn.Linear, optional
        A chain of layers of the model, the lowest first, with nothing between them: for models that call their layers
        themselves, or in several sequences. By default all that follow one another in a sequence; the chain is then
        the last of its runs with nothing between, and there is none where layers follow one another in several
        sequences, as nothing says which of these is run last. Where none do, it is the layer that is registered last.
    G : (M, p) array or tensor, or float, optional
        What the layer below the last one of the chain is given, or the mean of ``|g|^2``, for the bound of NRC2.
    biases : {"decayed", "free"}
        Whether weight decay acts on biases, as it does in torch unless they are put in a group of their own. Decayed,
        the bias of the layer below counts as one more column of its weights.

    Returns
    -------
    Balance

    Raises
    ------
    ImportError
        A model was given and torch is not installed.
    TypeError
        The model or `layers` is something else, or an array is no real one.
    ValueError
        There is no linear layer, a layer is not in the model, no linear one, has no weights yet or is given twice,
        shapes do not follow one another, values are not finite, G is given and there is no chain, or `biases` is
        unknown.

    References
    ----------
    Balance and conditions: "Wide neural networks trained with weight decay provably exhibit neural collapse", arXiv
    2410.04887. The bound of NRC2 is this project's.

    Examples
    --------
    >>> found = balance([[[2.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.5]]])
    >>> found.layers[1].imbalance, found.product_condition, found.balanced_condition
    (0.75, 8.0, 2.8284271247461903)
    >>> [layer.condition for layer in found.layers]
    [2.0, 4.0]
    """
    if biases not in get_args(Biases):
        msg = f"biases is {biases!r}; {', '.join(map(repr, get_args(Biases)))} are known"
        raise ValueError(msg)
    parts, pairs, last = _of_model(model, layers) if hasattr(model, "named_modules") else _of_matrices(model, layers)
    below = {pair.upper: pair for pair in pairs}
    chain = _chain(last, below) if last else []
    if G is not None and not chain:
        msg = "layers follow one another in several sequences, and G belongs to one of them; name its layers in layers="
        raise ValueError(msg)
    components = min((size for name in chain for size in parts[name].weights.shape), default=0)
    found = tuple(
        _layer(name, parts, below.get(name), biases, components=components if name in chain else 0) for name in parts
    )
    return Balance(
        layers=found,
        chain=tuple(chain),
        components=components,
        nrc2_bound=_nrc2_bound([parts[name] for name in chain[-2:]], G),
        **_conditions([parts[name].weights for name in chain], components),
    )


def balance_below(model: Module, name: str) -> Bounded:
    """The relative imbalance of a layer of a model with the one below, biases decayed; NaN where it has none."""
    known = linear_layers(model)
    for pair in linear_neighbours(model):
        if pair.upper == name and not pair.between:
            try:
                lower, upper = (_read(each, known[each]) for each in (pair.lower, pair.upper))
            except (TypeError, ValueError):  # weights that are not finite, as those of a training that diverges
                break
            return imbalance(_with_bias(lower, "decayed"), upper.weights).relative
    return Bounded(math.nan, math.nan)


# ---- what was given ----


def _of_model(model: Any, layers: Sequence[str | Module] | None) -> _Given:
    known = linear_layers(model)
    if layers is not None:
        names = _named(model, layers, known)
        return _followed({name: _read(name, known[name]) for name in names}, _in_a_row(names), names[-1])
    sequences = linear_sequences(model)
    pairs = [pair for found in sequences for pair in found]
    names = list(dict.fromkeys(name for pair in pairs for name in pair[:2])) or list(known)[-1:]
    if not names:
        msg = f"{type(model).__name__} has no torch.nn.Linear; give the weights of a chain of layers as a list"
        raise ValueError(msg)
    last = names[-1] if len(sequences) < 2 else ""
    return _followed({name: _read(name, known[name]) for name in names}, pairs, last)


def _named(model: Any, layers: Any, known: dict[str, Linear]) -> list[str]:
    """The names of the layers that were given as a chain."""
    torch = require_library("torch", "torch")
    if isinstance(layers, (str, torch.nn.Module)) or not isinstance(layers, Iterable):
        what = repr(layers) if isinstance(layers, str) else f"a {type(layers).__name__}"
        msg = f"layers is {what}; a sequence of names or layers is expected, such as ['fc1', 'fc2']"
        raise TypeError(msg)
    names = [find_layer(torch, model, layer)[0] for layer in layers]
    if not names:
        msg = "layers is empty; at least one layer is expected, or leave it out"
        raise ValueError(msg)
    seen: dict[int, str] = {}
    for name in names:
        if name not in known:
            msg = f"layer {name} is no torch.nn.Linear; a chain of linear layers is expected"
            raise ValueError(msg)
        first = seen.setdefault(id(known[name].weight), name)
        if names.count(name) > 1 or first != name:
            what = "is given twice" if first == name else f"has the weights of {first}"
            msg = f"layer {name} {what}; the law is one of layers whose weights are used once"
            raise ValueError(msg)
    return names


def _of_matrices(matrices: Any, layers: Sequence[str | Module] | None) -> _Given:
    if layers is not None:
        msg = "layers names those of a model, and weights were given; leave it out"
        raise ValueError(msg)
    if not isinstance(matrices, (list, tuple)):
        msg = f"a torch.nn.Module or a list of weights is expected, and a {type(matrices).__name__} was given"
        raise TypeError(msg)
    if not matrices:
        msg = "the list of weights is empty; a matrix for each layer is expected"
        raise ValueError(msg)
    parts = {f"W{k + 1}": _Layer(as_matrix(matrix, f"W{k + 1}")[0], None) for k, matrix in enumerate(matrices)}
    return _followed(parts, _in_a_row(list(parts)), list(parts)[-1])


def _in_a_row(names: Sequence[str]) -> list[Neighbours]:
    return [Neighbours(lower, upper, "") for lower, upper in pairwise(names)]


def _followed(parts: dict[str, _Layer], pairs: list[Neighbours], last: str) -> _Given:
    for name, part in parts.items():
        if not part.weights.size:
            msg = f"{name} has shape {part.weights.shape}; a layer with at least one output and one input is expected"
            raise ValueError(msg)
    for pair in pairs:
        outputs, inputs = len(parts[pair.lower].weights), parts[pair.upper].weights.shape[1]
        if outputs != inputs:
            msg = (
                f"{pair.upper} takes {inputs} inputs and {pair.lower} has {outputs} outputs; give the first layer first"
            )
            raise ValueError(msg)
    return _Given(parts, pairs, last)


def _read(name: str, layer: Any) -> _Layer:
    if require_library("torch", "torch").nn.parameter.is_lazy(layer.weight):
        msg = f"layer {name} is a {type(layer).__name__} without weights yet; run the model once on a batch first"
        raise ValueError(msg)
    weight, bias = (part.full_tensor() if hasattr(part, "full_tensor") else part for part in (layer.weight, layer.bias))
    values = as_matrix(weight.detach(), f"the weights of {name}")[0]
    return _Layer(values, None if bias is None else as_matrix(bias.detach()[None], f"the bias of {name}")[0][0])


# ---- what is found ----


def _chain(last: str, below: dict[str, Neighbours]) -> list[str]:
    names = [last]
    while names[0] in below and not below[names[0]].between and below[names[0]].lower not in names:
        names.insert(0, below[names[0]].lower)
    return names


def _with_bias(layer: _Layer, biases: Biases) -> FloatArray:
    """The weights, with the bias as one more column where it decays too."""
    if layer.bias is None or biases == "free":
        return layer.weights
    return np.concatenate([layer.weights, layer.bias[:, np.newaxis]], axis=1)


def _layer(
    name: str, parts: dict[str, _Layer], pair: Neighbours | None, biases: Biases, *, components: int
) -> LayerBalance:
    weights = parts[name].weights
    numbers: dict[str, Bounded] = {}
    if pair is not None:
        lower = _with_bias(parts[pair.lower], biases)
        numbers["unit_imbalance"] = unit_imbalance(lower, weights)
        if not pair.between:
            found = imbalance(lower, weights)
            numbers |= {"imbalance": found.frobenius, "relative_imbalance": found.relative}
            numbers["operator_imbalance"] = found.operator
    if components:
        numbers["condition"] = condition(weights, components)
    return LayerBalance(
        name=name,
        outputs=weights.shape[0],
        inputs=weights.shape[1],
        below="" if pair is None else pair.lower,
        between="" if pair is None else pair.between,
        bounds={key: number.bound for key, number in numbers.items() if not math.isnan(number.value)},
        **{key: number.value for key, number in numbers.items()},
    )


def _conditions(matrices: Sequence[FloatArray], components: int) -> dict[str, Any]:
    """Of the product of a chain, and of each of its layers if they were balanced, with bounds; NaN without a chain."""
    if not matrices:
        return {"product_condition": math.nan, "balanced_condition": math.nan}
    product, m = product_condition(matrices, components), len(matrices)
    return {
        "product_condition": product.value,
        "balanced_condition": product.value ** (1.0 / m),
        "bounds": {"product_condition": product.bound, "balanced_condition": _root_bound(product, m)},
    }


def _root_bound(product: Bounded, m: int) -> float:
    if not math.isfinite(product.bound):
        return math.inf
    low, high = (float(part ** (1.0 / m)) for part in (product.value, product.value + product.bound))
    return high - low + 4.0 * EPSILON * low


def _nrc2_bound(chain: Sequence[_Layer], G: Array | float | None) -> float:
    if G is None:
        return math.nan
    energy = _mean_square(G, chain[0].weights.shape[1] if len(chain) > 1 else None)
    if len(chain) < 2:
        return math.nan
    feature, head = chain
    if feature.bias is not None:
        energy += 1.0
    operator = imbalance(_with_bias(feature, "decayed"), head.weights).operator
    return (operator.value + operator.bound) * energy * (1.0 + 4.0 * EPSILON)


def _mean_square(G: Array | float, inputs: int | None) -> float:
    """The mean of |g|^2, with what it may be off by; infinite beyond the range of float64."""
    if np.ndim(cast("Any", G)) == 0:
        try:
            value = math.nan if isinstance(G, (str, bytes)) else float(cast("Any", G))
        except (TypeError, ValueError):
            value = math.nan
        if math.isnan(value):
            msg = f"G is {G!r}; rows of numbers, or the mean of |g|^2, is expected"
            raise TypeError(msg)
        if not 0.0 <= value < math.inf:
            msg = f"G is {value}; the mean of |g|^2 is a finite number from 0 on"
            raise ValueError(msg)
        return value
    rows = as_matrix(G, "G")[0]
    if rows.shape[1] != (inputs or rows.shape[1]) or not len(rows):
        msg = f"G has shape {rows.shape}; rows of {inputs or 'p'} numbers are expected, what the layer below is given"
        raise ValueError(msg)
    scaled, exponent = scale_to_unit(rows)
    mean = float(np.mean(np.sum(scaled**2, axis=1))) * (1.0 + sum(rows.shape) * EPSILON)
    return times_power(mean, 2 * exponent)
