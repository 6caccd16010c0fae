"""What was found of the balance of a network's layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nrc_fast.base.cards import card
from nrc_fast.reports.fields import restored_bounds
from nrc_fast.reports.records import NAN, StoredResult, format_digits, format_value

__all__ = ["Balance", "LayerBalance"]

COLUMNS = {
    "relative_imbalance": "imbalance",
    "unit_imbalance": "by units",
    "condition": "condition",
}

# Layers of a chain that are all named.
MOST_NAMES = 4


@dataclass(frozen=True, eq=False, repr=False)
class LayerBalance(StoredResult):
    """A linear layer, its balance with the one below it, and its condition.

    Attributes
    ----------
    name : str
    outputs, inputs : int
        Shape of its weights W.
    below : str
        The linear layer whose outputs it is given; empty where there is none that can be compared.
    between : str
        What stands between, such as "ReLU" or "ReLU, Dropout"; empty for nothing.
    imbalance : float
        ``|W^T W - V V^T|_F`` with V the weights below, and their bias as one more column where it decays; NaN where an
        activation stands between.
    relative_imbalance : float
        Over the sum of the norms of both matrices: 0 where they are balanced, at most 1.
    operator_imbalance : float
        The largest eigenvalue of that difference, in size.
    unit_imbalance : float
        The relative imbalance of the diagonals alone, unit by unit, which holds with a ReLU between too.
    condition : float
        Ratio of the first singular value to that of number ``Balance.components``; NaN for layers that an activation
        parts from the last.
    bounds : mapping of str to float
        Absolute bounds by name, of rounding.
    """

    __module__ = "nrc_fast.reports"
    _described = "balance of a layer"

    name: str
    outputs: int
    inputs: int
    below: str = ""
    between: str = ""
    imbalance: float = NAN
    relative_imbalance: float = NAN
    operator_imbalance: float = NAN
    unit_imbalance: float = NAN
    condition: float = NAN
    bounds: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        shape = f"({self.outputs}, {self.inputs})"
        if not self.below:
            return f"<LayerBalance of {self.name}, {shape}>"
        numbers = ", ".join(
            f"{title} {getattr(self, name):.3g}"
            for name, title in COLUMNS.items()
            if not math.isnan(getattr(self, name))
        )
        return f"<LayerBalance of {self.name}, {shape}, above {self.below}: {numbers}>"

    @classmethod
    def _restorers(cls) -> dict[str, Callable[[Any], Any]]:
        return {"bounds": restored_bounds}


def _layers(values: Any) -> tuple[LayerBalance, ...]:
    if not isinstance(values, (list, tuple)) or not values:
        msg = f"layers is a {type(values).__name__}; a list of at least one layer is expected"
        raise ValueError(msg)
    return tuple(map(LayerBalance.from_dict, values))


@dataclass(frozen=True, eq=False, repr=False)
class Balance(StoredResult):
    """The balance of neighbouring linear layers, and the conditions of those that end a network; made by `balance`.

    Attributes
    ----------
    layers : tuple of LayerBalance
        In the order in which the data goes through them; of several sequences one after the other.
    chain : tuple of str
        The end of the last run of layers with nothing between, in the order in which they are run, or the layers that
        were named: what follows is about them and their product P. Empty for layers of several sequences, of which
        nothing says which is the last.
    components : int
        The least width of the chain, how many singular values of P can be other than 0; 0 without a chain.
    product_condition : float
        Ratio of the first singular value of P to the last of these; NaN, like the next, without a chain.
    balanced_condition : float
        ``product_condition^(1/m)`` with m the length of the chain: the condition of each of its layers if they are
        balanced.
    nrc2_bound : float
        NRC2 under convention raw is at most this, rounding included: ``|W^T W - V V^T|_op`` times the mean of
        ``|g|^2``, for features h = V g. With a bias of the layer below, V has it as a column, and g a 1. NaN where g
        was not given, or the chain is the last layer alone.
    bounds : mapping of str to float
        Absolute bounds by name, of rounding. Infinite for a condition whose last singular value may be 0.
    """

    __module__ = "nrc_fast"
    _described = "balance"

    layers: tuple[LayerBalance, ...]
    chain: tuple[str, ...]
    components: int
    product_condition: float
    balanced_condition: float
    nrc2_bound: float = NAN
    bounds: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        width = max(5, *(len(layer.name) for layer in self.layers))
        below = max(5, *(len(_below(layer)) for layer in self.layers))
        lines = [
            self._summary,
            "",
            f"{'layer':<{width}}  {'shape':<14}{'above':<{below}}"
            + "".join(f"{title:>11}" for title in COLUMNS.values()),
        ]
        for layer in self.layers:
            shape = f"({layer.outputs}, {layer.inputs})"
            numbers = "".join(f"{_cell(layer, name):>11}" for name in COLUMNS)
            lines.append(f"{layer.name:<{width}}  {shape:<14}{_below(layer):<{below}}{numbers}".rstrip())
        if len(self.chain) > 1:
            lines += ["", *(f"{label}: {value}" for label, value in self._of_chain)]
        return "\n".join(lines)

    @property
    def _summary(self) -> str:
        known = [layer for layer in self.layers if not math.isnan(layer.relative_imbalance)]
        count = "1 linear layer" if len(self.layers) == 1 else f"{len(self.layers)} linear layers"
        zero = next((layer for layer in self.layers if layer.below and not layer.between), None)
        if not known and zero is not None:
            return f"balance of {count}: {zero.name} and {zero.below} are both 0"
        if not known:
            units = [layer.unit_imbalance for layer in self.layers if not math.isnan(layer.unit_imbalance)]
            beside = f", by units {max(units):.3g} at most" if units else ""
            return f"balance of {count}: no two with nothing between{beside}"
        worst = max(known, key=lambda layer: layer.relative_imbalance)
        return (
            f"balance of {count}: imbalance {worst.relative_imbalance:.3g} at most, of {worst.name} and {worst.below}"
        )

    @property
    def _of_chain(self) -> list[tuple[str, str]]:
        names = ("product_condition", "balanced_condition")
        product, balanced = (_condition(getattr(self, name), self.bounds.get(name), format_value) for name in names)
        are_few = len(self.chain) <= MOST_NAMES
        names_of_layers = ", ".join(self.chain) if are_few else f"{self.chain[0]} to {self.chain[-1]}"
        rows = [
            (f"condition of the product of {names_of_layers}", product),
            ("that of each if they were balanced", balanced),
        ]
        return rows if math.isnan(self.nrc2_bound) else [*rows, ("NRC2 (raw) is at most", f"{self.nrc2_bound:.4g}")]

    def _repr_html_(self) -> str:
        header = ("layer", "shape", "above", *COLUMNS.values())
        rows: list[tuple[object, ...]] = [
            (
                layer.name,
                f"({layer.outputs}, {layer.inputs})",
                _below(layer),
                *(_cell(layer, name) for name in COLUMNS),
            )
            for layer in self.layers
        ]
        of_chain = self._of_chain if len(self.chain) > 1 else []
        return card(self._summary, rows=[*rows, *of_chain], header=header)

    @classmethod
    def _restorers(cls) -> dict[str, Callable[[Any], Any]]:
        return {"layers": _layers, "bounds": restored_bounds}


def _below(layer: LayerBalance) -> str:
    return f"{layer.below} ({layer.between})" if layer.between else layer.below


def _cell(layer: LayerBalance, name: str) -> str:
    value, bound = getattr(layer, name), layer.bounds.get(name)
    if math.isnan(value):
        return ""
    return _condition(value, bound, format_digits) if name == "condition" else format_digits(value, bound, 4)


def _condition(value: float, bound: float | None, shown: Callable[[float, float | None, int], str]) -> str:
    """A condition; one whose last singular value may be 0 has no digit that is known."""
    return "unresolved" if bound is not None and not math.isfinite(bound) else shown(value, bound, 4)
