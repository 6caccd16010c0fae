"""A torchmetrics Metric of neural regression collapse, added up over batches and over processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from nrc_fast.base.arrays import Array
from nrc_fast.base.libraries import needs_library
from nrc_fast.base.listing import listing
from nrc_fast.base.options import NonFinite, Precision, Spectrum
from nrc_fast.measurement.extent import extent_of
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.metrics.conventions import ConventionName
from nrc_fast.training.heads import head_of

with needs_library("torchmetrics", "this needs torchmetrics"):
    import torch
    from torchmetrics import Metric

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NRC"]

__dir__ = listing(__name__, __all__)

NAMES = ("nrc1", "nrc2", "nrc3", "gamma", "mse", "r2", "cka", "linear_mse", "effective_rank", "stable_rank")


class _SumOptions(TypedDict):
    n_targets: int
    precision: Precision
    nonfinite: NonFinite


class _ReportOptions(TypedDict):
    convention: ConventionName
    spectrum: Spectrum


class NRC(Metric):
    """NRC1 to NRC3 and their companions of features that arrive in batches, as a torchmetrics ``Metric``.

    ``update(H, Y)`` adds a batch; ``compute()`` gives a dictionary of float64 tensors with keys nrc1, nrc2, nrc3,
    gamma, mse, r2, cka, linear_mse, effective_rank and stable_rank. States are float64 sums around a shift; over
    processes they are gathered and merged exactly, also where processes have other shifts or no rows.

    Parameters
    ----------
    d, n_targets : int, optional
        Number of features, and of target outputs; those of `head` where it is given.
    head : torch.nn.Linear or (n, d) tensor, optional
        The last layer, read when the metric is computed, or its weights. Without it NRC2 and NRC3 are NaN.
    convention : str
        Definition of NRC1 and NRC2 in use, see `nrc_fast.CONVENTIONS`; id25 is NaN, as it needs the mean before the
        rows.
    spectrum : {"auto", "full"}
        "full" is the effective rank beyond 1,024 features too, which is NaN there by default.
    precision, nonfinite
        Precision of the products, and what becomes of rows that are not finite, see `nrc_fast.FeatureStatistics`.
    **options
        Options of ``torchmetrics.Metric``.

    Raises
    ------
    ImportError
        torchmetrics is not installed.
    TypeError
        Neither the sizes nor a head that has them is given.

    Examples
    --------
    >>> from nrc_fast.integrations.torchmetrics import NRC              # doctest: +SKIP
    >>> metric = NRC(head=model.head)                                   # doctest: +SKIP
    """

    # torchmetrics' forward may take the value of a batch from a state of its own.
    full_state_update = True
    is_differentiable = False
    higher_is_better = None

    def __init__(
        self,
        d: int | None = None,
        n_targets: int | None = None,
        *,
        head: torch.nn.Module | Array | None = None,
        convention: ConventionName = "nrc24",
        spectrum: Spectrum = "auto",
        precision: Precision = "high",
        nonfinite: NonFinite = "raise",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        d, n_targets = _sizes(d, n_targets, head)
        # A tuple, as a module among the attributes would become a submodule of the metric.
        self._head = (head,)
        extent_of("leading", spectrum)
        self._asked: _ReportOptions = {"convention": convention, "spectrum": spectrum}
        self._options: _SumOptions = {"n_targets": n_targets, "precision": precision, "nonfinite": nonfinite}
        self._d = d
        empty = FeatureStatistics(d, **self._options).moments.arrays()
        self._names = (*empty, "shift", "target_shift")
        shifts = {"shift": np.full(d, math.nan), "target_shift": np.full(n_targets, math.nan)}
        for name, array in (empty | shifts).items():
            # Parts have shifts of their own, so that states cannot be added up one by one: they are gathered.
            self.add_state(name, default=torch.from_numpy(array), dist_reduce_fx=None)

    def update(self, H: Array, Y: Array | None = None) -> None:
        """Add a batch of features (B, d) and targets (B, n)."""
        statistics = self._statistics([getattr(self, name) for name in self._names])
        statistics.update(H, Y)
        self._keep(statistics)

    def compute(self) -> dict[str, torch.Tensor]:
        """The metrics by name, float64 tensors; NaN for what the inputs do not allow."""
        head, bias = self._head[0], None
        if isinstance(head, torch.nn.Module):
            head, bias = head_of(head)
        statistics = self.statistics
        report = statistics.report(head, bias, n=statistics.n_targets or None, **self._asked)
        return {name: torch.tensor(getattr(report, name), dtype=torch.float64) for name in NAMES}

    @property
    def statistics(self) -> FeatureStatistics:
        """`nrc_fast.FeatureStatistics` of all rows; inside ``compute`` those of all processes."""
        states = [getattr(self, name) for name in self._names]
        if states[self._names.index("counts")].ndim == 1:
            return self._statistics(states)
        total, *others = (self._statistics(list(part)) for part in zip(*states, strict=True))
        for other in others:
            total += other
        return total

    def merge_state(self, incoming_state: object) -> None:
        """Add the rows of another metric of the same kind.

        Raises
        ------
        TypeError
            It is something else.
        """
        if not isinstance(incoming_state, NRC):
            msg = f"a {type(incoming_state).__name__} cannot be merged; another metric of this kind is expected"
            raise TypeError(msg)
        total = self.statistics
        total += incoming_state.statistics
        self._keep(total)
        self._computed, self._update_count = None, getattr(self, "_update_count", 0) + 1

    def _statistics(self, states: Sequence[torch.Tensor]) -> FeatureStatistics:
        statistics = FeatureStatistics(self._d, **self._options)
        arrays = {name: state.cpu().numpy() for name, state in zip(self._names, states, strict=True)}
        if np.isnan(arrays["shift"]).any():
            del arrays["shift"], arrays["target_shift"]
        statistics.restore(arrays)
        return statistics

    def _keep(self, statistics: FeatureStatistics) -> None:
        for name, array in statistics.moments.arrays().items():
            # Where the states are, wherever the features lie: processes gather them from there.
            setattr(self, name, torch.from_numpy(array).to(getattr(self, name).device))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], *arguments: Any, **options: Any) -> Self:
        """Sums go to other devices with a module that holds the metric, but stay float64 where it is cast."""

        def move(state: torch.Tensor) -> torch.Tensor:
            moved = fn(state)
            return moved if moved.dtype == state.dtype else state.to(moved.device)

        applied: Self = super()._apply(move, *arguments, **options)
        return applied

    def set_dtype(self, dst_type: object) -> Self:
        """Sums stay float64, whatever the metric is asked to be."""
        del dst_type
        return self


def _sizes(d: int | None, n_targets: int | None, head: torch.nn.Module | Array | None) -> tuple[int, int]:
    """How many features and targets there are, as given or as the head has them."""
    weight = head_of(head)[0] if isinstance(head, torch.nn.Module) else head
    shape = np.shape(weight) if weight is not None else ()
    outputs, inputs = shape if len(shape) == 2 else (None, None)
    d, n_targets = inputs if d is None else d, outputs if n_targets is None else n_targets
    if d is None or n_targets is None:
        msg = (
            "NRC needs the number of features and of targets before the first batch: NRC(d, n_targets), or "
            "NRC(head=model.head) with a torch.nn.Linear or its weights (n, d)"
        )
        raise TypeError(msg)
    return d, n_targets
