"""A callback for the Trainer of transformers that measures neural regression collapse as it evaluates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nrc_fast.base.libraries import needs_library
from nrc_fast.base.listing import listing
from nrc_fast.training.monitor import Monitor

with needs_library("transformers", "this needs transformers"):
    from torch import distributed
    from transformers import TrainerCallback

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.nn import Module
    from transformers import TrainerControl, TrainerState, TrainingArguments

__all__ = ["NRCCallback"]

__dir__ = listing(__name__, __all__)


class NRCCallback(TrainerCallback):
    """Measures the features of a model's last layer after epochs or evaluations of a ``Trainer``.

    The numbers go to the trainer's ``state.log_history`` as "nrc/nrc1", "nrc/nrc2" and so on; NRC3 is that of each
    step's own gamma. The whole history, with the paper's replay of gamma and the plot, is in `monitor`, whose
    ``loggers`` send the numbers elsewhere. The training is not changed by a bit. In several processes the numbers are
    those of the rows of all of them; what a sampler repeats to give every process as many rows counts twice, so give a
    `loader` of each process's own part where that matters.

    Parameters
    ----------
    loader : iterable of batches, optional
        Mappings with "labels", or what `split` takes; by default the trainer's evaluation data, else its training data.
    layer : str or torch.nn.Linear, optional
        The last layer, by its name in the model; by default the model's last ``torch.nn.Linear``.
    when : {"epoch", "evaluate"}
    prefix : str
        What stands before every name.
    **options
        Options of `nrc_fast.Monitor`: features, gamma, convention, penalties, by_k, spectrum, positions, mask,
        nonfinite, split, context, loggers, name. Models whose head scores every token need to be told what becomes of
        the scores: ``positions="last", mask="attention_mask"`` for decoders, which predict from the last token that is
        no padding (GPT-2, Llama, ``...ForSequenceClassification``), ``positions="mean"`` for those that take a mean
        over tokens.

    Attributes
    ----------
    monitor : nrc_fast.Monitor or None
        None before the first measurement.

    Raises
    ------
    ImportError
        transformers is not installed.
    ValueError
        An option is none, or there is no data to measure.

    Examples
    --------
    >>> from nrc_fast.integrations.transformers import NRCCallback      # doctest: +SKIP
    >>> trainer = transformers.Trainer(..., callbacks=[NRCCallback()])  # doctest: +SKIP
    """

    def __init__(
        self,
        loader: Iterable[object] | None = None,
        *,
        layer: str | Module | None = None,
        when: str = "epoch",
        prefix: str = "nrc/",
        **options: Any,
    ) -> None:
        if when not in ("epoch", "evaluate"):
            msg = f"when is {when!r}; 'epoch' or 'evaluate' is expected"
            raise ValueError(msg)
        self.loader = loader
        self.when = when
        self.prefix = prefix
        self.monitor: Monitor | None = None
        self._layer = layer
        self._options = options

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Measure after an epoch."""
        del args, control
        if self.when == "epoch":
            self._measure(state, parts)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Measure after the trainer's own evaluation."""
        del args, control
        if self.when == "evaluate":
            self._measure(state, parts)

    def _measure(self, state: TrainerState, parts: Mapping[str, Any]) -> None:
        if self.monitor is None:
            self.monitor = Monitor(
                parts["model"], self._chosen_loader(parts), layer=self._layer, group=_group(), **self._options
            )
        record = self.monitor.evaluate(state.global_step)
        values = {self.prefix + name: value for name, value in record.scalars().items()}
        state.log_history.append({"step": state.global_step, "epoch": state.epoch} | values)

    def _chosen_loader(self, parts: Mapping[str, Any]) -> Iterable[object]:
        loader = self.loader
        if loader is None:
            loader = parts.get("eval_dataloader") or parts.get("train_dataloader")
        if loader is None:
            msg = "the trainer has no data loader to measure with; give NRCCallback one (loader=)"
            raise ValueError(msg)
        return loader


def _group() -> ProcessGroup | None:
    has_others = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return distributed.group.WORLD if has_others else None
