"""Small trainings in other libraries, for the tests of integrations; as a program, one process of several."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn


def draw(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def samples() -> tuple[Any, Any]:
    X = draw(120, 5)
    return X, torch.tanh(X[:, :2] + 0.2 * draw(120, 2, seed=2))


def fit_with_lightning(
    folder: Path,
    *callbacks: Any,
    hooks: tuple[type, ...] = (),
    ckpt_path: str | Path | None = None,
    activation: type[nn.Module] = nn.Tanh,
    dropout: float = 0.2,
    decay: float = 0.0,
    **options: Any,
) -> tuple[Any, Any]:
    """A trainer of Lightning after four epochs, and its module, which has hooks of other classes too."""
    lightning = importlib.import_module("lightning")

    class Module(*hooks, lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Dropout(dropout), activation())
            self.head = nn.Linear(8, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.trunk(x))

        def training_step(self, batch: Any, _: int) -> Any:
            return nn.functional.mse_loss(self(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=decay)

    lightning.seed_everything(3, verbose=False)
    module = Module()
    return fitted(folder, module, *callbacks, ckpt_path=ckpt_path, **options), module


def without_chance() -> Any:
    """A module of Lightning whose training is the same in every process that begins at one of its checkpoints."""
    lightning = importlib.import_module("lightning")

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
            self.head = nn.Linear(8, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.trunk(x))

        def training_step(self, batch: Any) -> Any:
            return nn.functional.mse_loss(self(batch[0]), batch[1])

        def validation_step(self, batch: Any) -> None:
            self.log("validation", nn.functional.mse_loss(self(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    torch.manual_seed(3)
    return Module()


def without_forward(*, validates: bool = False, by_hand: bool = False) -> Any:
    """A module of Lightning that has steps alone, one of which optimizes by hand where it is asked to."""
    lightning = importlib.import_module("lightning")

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.2), nn.Tanh())
            self.head = nn.Linear(8, 2)
            self.other = nn.Linear(8, 3)
            self.automatic_optimization = not by_hand

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            loss = nn.functional.mse_loss(self.head(self.trunk(x)), y)
            self.log("loss", loss + batch_idx)
            if by_hand:
                self.optimizers().zero_grad()
                self.manual_backward(loss)
                self.optimizers().step()
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    class Validating(Module):
        def validation_step(self, batch: Any, _: int) -> None:
            self.log_dict({"validation": nn.functional.mse_loss(self.head(self.trunk(batch[0])), batch[1])})

    lightning.seed_everything(3, verbose=False)
    return Validating() if validates else Module()


def fitted(folder: Path, module: Any, *callbacks: Any, ckpt_path: str | Path | None = None, **options: Any) -> Any:
    """A trainer that has fitted a module of Lightning to the samples, 120 rows in three batches."""
    lightning = importlib.import_module("lightning")
    loggers = importlib.import_module("lightning.pytorch.loggers")
    data = torch.utils.data.TensorDataset(*samples())
    loader = torch.utils.data.DataLoader(data, batch_size=40, shuffle=options.pop("shuffle", True))
    given = {"max_epochs": 4, "enable_checkpointing": False, "logger": loggers.CSVLogger(folder)} | options
    trainer = lightning.Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        callbacks=list(callbacks),
        **given,
    )
    validates = lightning.pytorch.utilities.model_helpers.is_overridden("validation_step", module)
    trainer.fit(module, loader, loader if validates else None, ckpt_path=ckpt_path)
    return trainer


def train_with_transformers(
    folder: Path,
    *callbacks: Any,
    resume_from_checkpoint: str | None = None,
    activation: type[nn.Module] = nn.Tanh,
    dropout: float = 0.2,
    **options: Any,
) -> tuple[Any, Any]:
    """A trainer of transformers after three epochs, and its model."""
    transformers = importlib.import_module("transformers")

    class Regression(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Dropout(dropout), activation())
            self.head = nn.Linear(8, 2)

        def forward(self, inputs: Any, labels: Any = None) -> Any:
            outputs = self.head(self.trunk(inputs))
            return outputs if labels is None else (nn.functional.mse_loss(outputs, labels), outputs)

    torch.manual_seed(3)
    X, Y = samples()
    data = [{"inputs": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    given = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "num_train_epochs": 3} | options
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=40,
        learning_rate=0.05,
        use_cpu=True,
        disable_tqdm=True,
        **given,
    )
    trainer = transformers.Trainer(
        model=Regression(), args=arguments, train_dataset=data, eval_dataset=data, callbacks=list(callbacks)
    )
    trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    return trainer, trainer.model


# ---- one process of several, started by torch.distributed.run ----


def in_lightning(folder: Path) -> dict[str, Any]:
    from nrc_fast.integrations.lightning import NRCCallback

    several = {"strategy": "ddp", "devices": int(os.environ["WORLD_SIZE"])}
    _, plain = fit_with_lightning(folder / "plain", **several)
    callback = NRCCallback(every="2 epochs")
    trainer, module = fit_with_lightning(folder / "watched", callback, **several)
    return found(plain, module, callback) | {"logged": float(trainer.callback_metrics["nrc/nrc1"])}


def in_transformers(folder: Path) -> dict[str, Any]:
    from nrc_fast.integrations.transformers import NRCCallback

    _, plain = train_with_transformers(folder / "plain")
    callback = NRCCallback([{"inputs": x, "labels": y} for x, y in [own_part(*samples())]])
    trainer, model = train_with_transformers(folder / "watched", callback)
    logged = [row["nrc/nrc1"] for row in trainer.state.log_history if "nrc/nrc1" in row]
    return found(plain, model, callback) | {"logged": logged[-1]}


def own_part(*arrays: Any) -> tuple[Any, ...]:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return tuple(array[rank::size] for array in arrays)


def found(plain: Any, model: Any, callback: Any) -> dict[str, Any]:
    return {
        "processes": torch.distributed.get_world_size(),
        "plain": weights(plain),
        "watched": weights(model),
        "records": [(record.step, record.scalars()) for record in callback.monitor.history.records("each")],
    }


def weights(model: Any) -> dict[str, Any]:
    return {name: value.tolist() for name, value in model.state_dict().items()}


def main() -> None:
    folder, library = Path(sys.argv[1]), sys.argv[2]
    result = globals()[f"in_{library}"](folder)
    (folder / f"result{os.environ['RANK']}.json").write_text(json.dumps(result))
    torch.distributed.barrier()
    # As in tests/support/distributed_worker.py: torch's threads may outlive what they use.
    os._exit(0)


if __name__ == "__main__":
    main()
