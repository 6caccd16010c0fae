"""A Lightning callback that measures neural regression collapse at the end of training epochs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from nrc_fast.base.libraries import needs_library
from nrc_fast.base.listing import listing
from nrc_fast.training.evaluation import Split, split_batch
from nrc_fast.training.monitor import Monitor

with needs_library("lightning", "this needs lightning"):
    import torch
    from torch import distributed

    try:
        from lightning.pytorch.callbacks import Callback
    except ImportError:  # the same under its older name
        from pytorch_lightning.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["NRCCallback"]

__dir__ = listing(__name__, __all__)


class NRCCallback(Callback):
    """Measures the features of a module's last layer at the start and after training epochs.

    The numbers go to the trainer's loggers and callback metrics as "nrc/nrc1", "nrc/nrc2" and so on, with the trainer's
    ``global_step``; NRC3 is that of each step's own gamma. Batches reach the module as in its own training: through its
    precision plugin and its hooks before, at and after their transfer to the device, and ``forward`` runs in the
    plugin's context. The whole history, with the paper's replay of gamma and the plot, is in `monitor`. The training is
    not changed by a bit. In several processes the numbers are those of the rows of all of them; what a sampler repeats
    to give every process as many rows counts twice, so give a `loader` of each process's own part where that matters.

    Parameters
    ----------
    loader : iterable of batches, optional
        What is measured; by default the training data.
    layer : str or torch.nn.Linear, optional
        The last layer, by its name in the module; by default the module's last ``torch.nn.Linear``.
    every_n_epochs : int
    prefix : str
        What stands before every name.
    **options
        Options of `nrc_fast.Monitor`: features, gamma, convention, penalties, by_k, spectrum, positions, mask,
        nonfinite, split, loggers, name. `split` is given batches after their transfer.

    Attributes
    ----------
    monitor : nrc_fast.Monitor or None
        None before the training starts.

    Raises
    ------
    ImportError
        Neither lightning nor pytorch-lightning is installed.
    ValueError
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
        every_n_epochs: int = 1,
        prefix: str = "nrc/",
        **options: Any,
    ) -> None:
        if every_n_epochs < 1:
            msg = f"every_n_epochs is {every_n_epochs}; a number of epochs from 1 on is expected"
            raise ValueError(msg)
        super().__init__()
        self.loader = loader
        self.every_n_epochs = every_n_epochs
        self.prefix = prefix
        self.monitor: Monitor | None = None
        self._layer = layer
        self._options = options

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the monitor, and measure before the first step."""
        loader = trainer.train_dataloader if self.loader is None else self.loader
        group = None
        if trainer.world_size > 1:
            group = distributed.group.WORLD
        if self.monitor is None:
            feeding = _Feeding(trainer, self._options.get("split", split_batch))
            options = self._options | {"split": feeding.split, "context": feeding.context}
            self.monitor = Monitor(pl_module, loader, layer=self._layer, group=group, **options)
        self._measure(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after an epoch."""
        del pl_module
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._measure(trainer)

    def _measure(self, trainer: Trainer) -> None:
        assert self.monitor is not None
        record = self.monitor.evaluate(trainer.global_step)
        values = {self.prefix + name: value for name, value in record.scalars().items()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        # Where ModelCheckpoint and EarlyStopping look for what they monitor.
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})


class _Feeding:
    """How a trainer gives batches to its module."""

    def __init__(self, trainer: Trainer, split: Split) -> None:
        self._trainer, self._split = trainer, split

    def split(self, batch: object) -> tuple[object, object]:
        """Inputs and targets of a batch of the loader, as the module's steps are given them."""
        trainer = self._trainer
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
        return self._split(trainer.strategy.batch_to_device(batch, dataloader_idx=0))

    def context(self) -> AbstractContextManager[object]:
        """What the module's steps run in: autocast, or another default dtype."""
        context: AbstractContextManager[object] = self._trainer.precision_plugin.forward_context()
        return context
