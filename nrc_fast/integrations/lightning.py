"""A Lightning callback that measures neural regression collapse while a module trains, and goes on from checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from nrc_fast.base.libraries import needs_library
from nrc_fast.base.listing import listing
from nrc_fast.reports.steps import Record
from nrc_fast.training.evaluation import Split, split_batch
from nrc_fast.training.head_evaluation import Run
from nrc_fast.training.monitor import Monitor
from nrc_fast.training.monitor_options import require_monitor_options
from nrc_fast.training.optimizers import known_optimizers
from nrc_fast.training.schedule import Every, schedule_of

with needs_library("lightning", "this needs lightning"):
    import torch
    from torch import distributed

    try:
        from lightning.pytorch import LightningModule
        from lightning.pytorch.callbacks import Callback
    except ImportError:  # the same under its older name
        from pytorch_lightning import LightningModule
        from pytorch_lightning.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
# What of a monitor's parameters the callback gives itself.
OWN = ("layer", "every", "run", "context", "group", "optimizer")

__all__ = ["NRCCallback"]

__dir__ = listing(__name__, __all__)


class NRCCallback(Callback):
    """Measures the features of a module's last layer at the start of a training and every so often.

    The numbers go to the trainer's loggers and callback metrics as "nrc/nrc1", "nrc/nrc2" and so on, with the trainer's
    ``global_step``; NRC3 is that of each step's own gamma. Batches reach the module as in its own training: through its
    precision plugin and its hooks before, at and after their transfer to the device, and in the plugin's context. The
    whole history, with the paper's replay of gamma and the plot, is in `monitor`. It is saved with the trainer's
    checkpoints: a training that goes on from one (``ckpt_path=``) goes on with its history, and has every step once.
    The training is not changed by a bit, and never ends because of what it computes; features that are not finite are
    recorded as NaN, and a warning says so once. In several processes the numbers are those of the rows of all of them;
    what a sampler repeats to give every process as many rows counts twice, so give a `loader` of each process's own
    part where that matters.

    A module is run by its ``forward``. One that has none, as Lightning allows, is run by its ``validation_step``, or by
    its ``training_step`` if it has no other: in evaluation mode, without gradients, with ``self.log`` doing nothing,
    and with the batch as the step is given it. What the layer is given meanwhile are the features, so that `layer`
    names the one whose output is compared with the targets, unless there is only one with an output for each target. A
    module that optimizes by hand inside of its only step needs `run`.

    Parameters
    ----------
    loader : iterable of batches, optional
        What is measured; by default the training data, and with ``every="evaluation"`` the validation data.
    layer : str or torch.nn.Linear, optional
        The last layer, by its name in the module; by default the one whose output is the module's, see
        `nrc_fast.Monitor`.
    every : int or str
        When is measured, as in `nrc_fast.Monitor`: "epoch", the default, "2 epochs", a number of the trainer's steps
        (``global_step``), "log" for log-spaced steps, or "evaluation", after the validations of the training.
    prefix : str
        What stands before every name; several callbacks of one trainer need several.
    run : callable, optional
        Called as ``run(module, inputs)`` with the inputs of a batch, in place of ``module(inputs)``.
    **options
        Options of `nrc_fast.Monitor`: features, gamma, convention, penalties, by_k, spectrum, positions, mask,
        nonfinite, split, loggers, name. ``split`` is given batches after their transfer.

    Attributes
    ----------
    monitor : nrc_fast.Monitor or None
        None before the training starts.

    Raises
    ------
    ImportError
        Neither lightning nor pytorch-lightning is installed.
    TypeError, ValueError
        An option is none.

    Examples
    --------
    >>> from nrc_fast.integrations.lightning import NRCCallback        # doctest: +SKIP
    >>> trainer = lightning.Trainer(callbacks=[NRCCallback()])         # doctest: +SKIP
    """

    def __init__(
        self,
        loader: Iterable[object] | None = None,
        *,
        layer: str | torch.nn.Module | None = None,
        every: Every = "epoch",
        prefix: str = "nrc/",
        run: Run | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        require_monitor_options(options, OWN, type(self).__name__)
        self._unit = schedule_of(every).unit  # says what is wrong with it before the training begins
        self.loader = loader
        self.every = every
        self.prefix = prefix
        self.monitor: Monitor | None = None
        self._layer, self._run, self._options = layer, run, options
        self._restored: dict[str, Any] | None = None

    # ---- when ----

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin without a state; the trainer gives that of a checkpoint afterwards."""
        del trainer, pl_module, stage
        self._restored = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from a checkpoint, or from an earlier fit of the module, and measure before the first step."""
        self._log(trainer, self._begin(trainer, pl_module).step(trainer.global_step))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Measure after a step."""
        del pl_module, outputs, batch, batch_idx
        assert self.monitor is not None
        self._log(trainer, self.monitor.step(trainer.global_step))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after an epoch."""
        del pl_module
        assert self.monitor is not None
        self._log(trainer, self.monitor.end_epoch(trainer.current_epoch + 1, trainer.global_step))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after a validation of the training."""
        del pl_module
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            assert self.monitor is not None
            self._log(trainer, self.monitor.end_evaluation(trainer.global_step))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the history of a checkpoint after which the training had no step left to make."""
        if self._restored is not None:
            self._begin(trainer, pl_module)

    def _begin(self, trainer: Trainer, module: LightningModule) -> Monitor:
        before = self.monitor
        if self._restored is None and before is not None and before.model is module:
            self._restored = before.state_dict()
        self.monitor = self._new_monitor(trainer, module)
        if self._restored is not None:
            self.monitor.load_state_dict(self._restored)
            self._restored = None
        return self.monitor

    def _new_monitor(self, trainer: Trainer, module: LightningModule) -> Monitor:
        run, takes_batches = _run_of(module, self._run)
        feeding = _Feeding(trainer, self._options.get("split", split_batch), takes_batches=takes_batches)
        return Monitor(
            module,
            self._chosen_loader(trainer),
            layer=self._layer,
            every=self.every,
            run=run,
            context=feeding.context,
            group=distributed.group.WORLD if trainer.world_size > 1 else None,
            # The trainer's steps are those of all its optimizers.
            optimizer=known_optimizers(trainer.optimizers) if len(trainer.optimizers) == 1 else None,
            **(self._options | {"split": feeding.split}),
        )

    def _chosen_loader(self, trainer: Trainer) -> Iterable[object]:
        loader: Any = self.loader
        if loader is None and self._unit == "evaluation":
            loader = trainer.val_dataloaders
            loader = loader[0] if isinstance(loader, (list, tuple)) else loader
        chosen: Iterable[object] = trainer.train_dataloader if loader is None else loader
        return chosen

    def _log(self, trainer: Trainer, record: Record | None) -> None:
        if record is None:
            return
        values = {self.prefix + name: value for name, value in record.scalars().items()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        # Where ModelCheckpoint and EarlyStopping look for what they monitor.
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})

    # ---- checkpoints ----

    @property
    def state_key(self) -> str:
        """What the trainer's checkpoints call the state of this callback."""
        key: str = self._generate_state_key(prefix=self.prefix)
        return key

    def state_dict(self) -> dict[str, Any]:
        """The state of the monitor; empty where there is none yet."""
        return {} if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Keep the state of a checkpoint for the start of the training."""
        self._restored = dict(state_dict)


def _run_of(module: LightningModule, run: Run | None) -> tuple[Run | None, bool]:
    """How a module is run, None for its ``forward``, and whether it takes whole batches."""
    if run is not None or type(module).forward is not LightningModule.forward:
        return run, False
    if type(module).validation_step is not LightningModule.validation_step:
        return _by_step("validation_step"), True
    if not module.automatic_optimization:
        msg = (
            f"{type(module).__name__} has neither forward nor validation_step, and its training_step optimizes by "
            "hand: say how its features are made (run=lambda module, inputs: ...)"
        )
        raise ValueError(msg)
    return _by_step("training_step"), True


def _by_step(name: str) -> Run:
    def run(module: Any, batch: object) -> object:
        step = getattr(module, name)
        parameters = signature(step).parameters.values()
        needed = [part for part in parameters if part.kind in POSITIONAL and part.default is Parameter.empty]
        with _without_log(module):
            return step(batch, *[0 for _ in needed[1:]])  # the number of the batch, and of its loader

    return run


@contextmanager
def _without_log(module: Any) -> Iterator[None]:
    """Let ``self.log`` do nothing: what a step says of itself belongs to the training."""
    module.log = lambda *args, **options: None  # noqa: ARG005 - called with whatever log takes
    try:
        yield
    finally:
        del module.log


class _Feeding:
    """How a trainer gives batches to its module."""

    def __init__(self, trainer: Trainer, split: Split, *, takes_batches: bool) -> None:
        self._trainer, self._split, self._takes_batches = trainer, split, takes_batches

    def split(self, batch: object) -> tuple[object, object]:
        """Inputs and targets of a batch of the loader, as the module's steps are given them."""
        trainer = self._trainer
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
        batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        inputs, targets = self._split(batch)
        return batch if self._takes_batches else inputs, targets

    def context(self) -> AbstractContextManager[object]:
        """What the module's steps run in: autocast, or another default dtype."""
        context: AbstractContextManager[object] = self._trainer.precision_plugin.forward_context()
        return context
