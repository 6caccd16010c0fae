"""A callback for the Trainer of transformers that measures neural regression collapse, and goes on from checkpoints."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nrc_fast.base.libraries import needs_library
from nrc_fast.base.listing import listing
from nrc_fast.reports.steps import Record
from nrc_fast.training.monitor import Monitor
from nrc_fast.training.monitor_options import require_monitor_options
from nrc_fast.training.optimizers import known_optimizers
from nrc_fast.training.schedule import Every, schedule_of

with needs_library("transformers", "this needs transformers"):
    from torch import distributed
    from transformers import TrainerCallback
    from transformers.trainer_callback import CallbackHandler

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.nn import Module
    from transformers import TrainerControl, TrainerState, TrainingArguments

# What of a monitor's parameters the callback gives itself.
OWN = ("layer", "every", "group", "optimizer")
# How a checkpoint of the trainer calls its folder and what it knows of the training, and where the latter has our part.
FOLDER, STATE_FILE, KEY = "checkpoint-{step}", "trainer_state.json", "nrc_fast {prefix}"

__all__ = ["NRCCallback"]

__dir__ = listing(__name__, __all__)


class NRCCallback(TrainerCallback):
    """Measures the features of a model's last layer at the start of a training with a ``Trainer`` and every so often.

    The numbers go to the trainer's ``state.log_history`` and to all that ``report_to`` names as "nrc/nrc1", "nrc/nrc2"
    and so on ("train/nrc/nrc1" in TensorBoard, as the trainer's own); NRC3 is that of each step's own gamma, and what
    is NaN is in the history alone. The whole history, with the paper's replay of gamma and the plot, is in `monitor`.
    It is saved with the trainer's checkpoints, in their trainer_state.json: a training that goes on from one
    (``resume_from_checkpoint=``) goes on with its history, and has every step once. The training is not changed by a
    bit, and never ends because of what it computes; features that are not finite are recorded as NaN, and a warning
    says so once. In several processes the numbers are those of the rows of all of them; what a sampler repeats to give
    every process as many rows counts twice, so give a `loader` of each process's own part where that matters.

    Parameters
    ----------
    loader : iterable of batches, optional
        Mappings with "labels", or what ``split`` takes; by default the trainer's training data, and with
        ``every="evaluation"`` its evaluation data.
    layer : str or torch.nn.Linear, optional
        The last layer, by its name in the model; by default the one whose output is the model's, see
        `nrc_fast.Monitor`.
    every : int or str
        When is measured, as in `nrc_fast.Monitor`: "epoch", the default, "2 epochs", a number of the trainer's steps
        (``state.global_step``), "log" for log-spaced steps, or "evaluation", after the trainer's evaluations.
    prefix : str
        What stands before every name; several callbacks of one trainer need several.
    **options
        Options of `nrc_fast.Monitor`: features, gamma, convention, penalties, by_k, spectrum, positions, mask,
        nonfinite, split, run, context, loggers, name. Models whose head scores every token need to be told what becomes
        of the scores: ``positions="last", mask="attention_mask"`` for decoders, which predict from the last token that
        is no padding (GPT-2, Llama, ``...ForSequenceClassification``), ``positions="mean"`` for those that take a mean
        over tokens.

    Attributes
    ----------
    monitor : nrc_fast.Monitor or None
        None before the first training or measurement.

    Raises
    ------
    ImportError
        transformers is not installed.
    TypeError, ValueError
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
        every: Every = "epoch",
        prefix: str = "nrc/",
        **options: Any,
    ) -> None:
        require_monitor_options(options, OWN, type(self).__name__)
        self._unit = schedule_of(every).unit
        self.loader = loader
        self.every = every
        self.prefix = prefix
        self.monitor: Monitor | None = None
        self._layer, self._options = layer, options
        self._restored: Mapping[str, Any] | None = None  # of a training that goes on, until there is a monitor

    # ---- when ----

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        """Go on from a checkpoint, or from an earlier training of the model, and measure before the first step."""
        restored, before = state.stateful_callbacks.get(self._key), self.monitor
        if restored is None and before is not None and before.model is parts["model"]:
            restored = before.state_dict()
        self.monitor, self._restored = None, restored
        self._step(args, state, control, parts)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Measure after a step."""
        self._step(args, state, control, parts)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Measure after an epoch, or after the part of one at which the training is stopped."""
        if self._unit == "epoch":
            epoch = math.ceil(state.epoch or 0.0)
            self._log(args, state, control, self._monitor_of(parts).end_epoch(epoch, state.global_step))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Measure after the trainer's own evaluation."""
        if self._unit == "evaluation":
            monitor = self._monitor_of(parts)
            monitor.step(state.global_step)
            self._log(args, state, control, monitor.end_evaluation(state.global_step))

    def _step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, parts: Mapping[str, Any]
    ) -> None:
        # The trainer shows its evaluation data from its first evaluation on.
        if self._unit != "evaluation":
            self._log(args, state, control, self._monitor_of(parts).step(state.global_step))

    def _monitor_of(self, parts: Mapping[str, Any]) -> Monitor:
        if self.monitor is None:
            self.monitor = Monitor(
                parts["model"],
                self._chosen_loader(parts),
                layer=self._layer,
                every=self.every,
                group=_group(),
                optimizer=known_optimizers(parts.get("optimizer")),
                **self._options,
            )
            if self._restored is not None:
                self.monitor.load_state_dict(self._restored)
                self._restored = None
        return self.monitor

    def _chosen_loader(self, parts: Mapping[str, Any]) -> Iterable[object]:
        names = ["train_dataloader", "eval_dataloader"]
        if self._unit == "evaluation":
            names.reverse()
        known = [loader for loader in (self.loader, *map(parts.get, names)) if loader is not None]
        if not known:
            msg = "the trainer has no data loader to measure with; give NRCCallback one (loader=)"
            raise ValueError(msg)
        return known[0]

    # ---- where the numbers go ----

    def _log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, record: Record | None
    ) -> None:
        if record is None:
            return
        values = {self.prefix + name: value for name, value in record.scalars().items()}
        about = {} if state.epoch is None else {"epoch": state.epoch}
        state.log_history.append(values | about | {"step": state.global_step})
        handler = _calling_handler()
        if handler is None:
            return
        should_log = control.should_log  # what the trainer is about to log itself
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        handler.on_log(args, state, control, known | about)
        control.should_log = should_log

    # ---- checkpoints ----

    @property
    def _key(self) -> str:
        return KEY.format(prefix=self.prefix)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Add the state of the monitor to the checkpoint that the trainer has just written."""
        del control, parts
        kept = self._restored if self.monitor is None else self.monitor.state_dict()
        if kept is None:
            return
        state.stateful_callbacks[self._key] = kept
        path = Path(args.output_dir) / FOLDER.format(step=state.global_step) / STATE_FILE
        if args.should_save and path.is_file():
            state.save_to_json(str(path))


def _calling_handler() -> CallbackHandler | None:
    """The trainer's list of callbacks, which knows its reporters; it shows the callbacks all but itself."""
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, CallbackHandler):
            return owner
        frame = frame.f_back
    return None


def _group() -> ProcessGroup | None:
    has_others = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return distributed.group.WORLD if has_others else None
