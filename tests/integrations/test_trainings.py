"""Other libraries' trainers and metrics, really run: numbers of the references, and the training unchanged."""

from __future__ import annotations

import copy
import csv
import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import processes

import nrc_fast as nrc
from nrc_fast.metrics.decay_slopes import decay_slope
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_nrc3

torch = pytest.importorskip("torch")
nn = torch.nn

# Warnings of the libraries about one another and about small machines, none of which this package can mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def trainers() -> Any:
    """The trainings of tests/support/trainers.py."""
    from support import trainers

    return trainers


def checked(record: Any, H: Any, W: Any, Y: Any) -> None:
    H = H.double().numpy()
    assert record.nrc1 == pytest.approx(reference_nrc1(H, 2), rel=1e-6)
    assert record.nrc2 == pytest.approx(reference_nrc2(H, W), rel=1e-6)
    assert record.nrc3 == pytest.approx(reference_nrc3(W, Y), rel=1e-6, abs=1e-12)


# ---- lightning ----


def test_lightning_callback(tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("lightning")
    from nrc_fast.integrations.lightning import NRCCallback

    trainer, plain = trainers.fit_with_lightning(tmp_path / "plain")
    callback = NRCCallback(every="2 epochs")
    trainer, module = trainers.fit_with_lightning(tmp_path / "watched", callback)
    for first, second in zip(plain.parameters(), module.parameters(), strict=True):
        assert torch.equal(first, second)
    assert module.training == plain.training
    records = callback.monitor.history.records("each")
    assert [record.step for record in records] == [0, 6, 12]
    X, Y = trainers.samples()
    module.eval()
    with torch.no_grad():
        H = module.trunk(X)
    checked(records[-1], H, module.head.weight.detach(), Y)
    assert float(trainer.callback_metrics["nrc/nrc1"]) == pytest.approx(records[-1].nrc1)
    with (Path(trainer.logger.log_dir) / "metrics.csv").open() as file:
        logged = [float(row["nrc/nrc2"]) for row in csv.DictReader(file) if row["nrc/nrc2"]]
    assert logged == pytest.approx([record.nrc2 for record in records])
    with pytest.raises(ValueError, match="every is '0 epochs'; a number of epochs from 1 on"):
        NRCCallback(every="0 epochs")
    with pytest.raises(TypeError, match=r"NRCCallback has no option every_n_epochs; those of nrc_fast\.Monitor are"):
        NRCCallback(every_n_epochs=2)


class Normalising:
    """Hooks of a module that change what the loader gives, and remember in which order they ran."""

    calls: tuple[str, ...] = ()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        del dataloader_idx
        self.calls = (*self.calls, "before")
        return batch[0] + 1.0, batch[1]

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        del dataloader_idx
        self.calls = (*self.calls, "transfer")
        return batch[0].to(device) * 3.0, batch[1].to(device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        del dataloader_idx
        self.calls = (*self.calls, "after")
        return batch[0] / 7.0, 0.5 * batch[1]


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true", "bf16-mixed"])
@pytest.mark.parametrize("normalises", [False, True])
def test_lightning_batches_are_those_of_the_trainer(
    precision: str, normalises: bool, tmp_path: Path, trainers: Any
) -> None:
    pytest.importorskip("lightning")
    from nrc_fast.integrations.lightning import NRCCallback

    hooks = (Normalising,) if normalises else ()
    _, plain = trainers.fit_with_lightning(tmp_path / "plain", hooks=hooks, precision=precision)
    callback = NRCCallback(every="4 epochs")
    _, module = trainers.fit_with_lightning(tmp_path / "watched", callback, hooks=hooks, precision=precision)
    for first, second in zip(plain.parameters(), module.parameters(), strict=True):
        assert torch.equal(first, second)
    X, Y = trainers.samples()
    if normalises:
        assert set(zip(module.calls[::3], module.calls[1::3], module.calls[2::3], strict=True)) == {
            ("before", "transfer", "after")
        }
        X, Y = (X + 1.0) * 3.0 / 7.0, 0.5 * Y
    dtype = {"64-true": torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
        module.eval()
        H, errors = module.trunk(X.to(dtype)), module(X.to(dtype)).double() - Y.to(dtype).double()
    record = callback.monitor.history.records("each")[-1]
    # The trainer gives 40 samples at a time, which 16-bit sums round in another order.
    coarse = "bf16" in precision
    assert record.mse == pytest.approx(float((errors**2).sum(dim=1).mean()), rel=2e-2 if coarse else 1e-5)
    assert record.nrc1 == pytest.approx(reference_nrc1(H.double().numpy(), 2), rel=2e-2 if coarse else 1e-5)


def test_callbacks_know_the_clock_of_their_optimizer(tmp_path: Path, trainers: Any) -> None:
    """Of linear features under SGD, at the learning rate of each record; of other features none."""
    pytest.importorskip("lightning")
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    from nrc_fast.integrations import lightning, transformers

    callback: Any = lightning.NRCCallback(every="2 epochs")
    trainers.fit_with_lightning(tmp_path / "linear", callback, activation=nn.Identity, dropout=0.0, decay=0.02)
    slopes = [record.clock for record in callback.monitor.records()]
    assert slopes == [decay_slope(0.1 * 0.02, 0.9).value] * 3
    others: tuple[dict[str, Any], ...] = ({"dropout": 0.0}, {"activation": nn.Identity})  # tanh, and dropout
    for options in others:
        callback = lightning.NRCCallback(every="2 epochs")
        trainers.fit_with_lightning(tmp_path / "others", callback, decay=0.02, **options)
        assert all(math.isnan(record.clock) for record in callback.monitor.records())
    callback = transformers.NRCCallback([{"inputs": trainers.samples()[0], "labels": trainers.samples()[1]}])
    sgd = {"optim": "sgd", "weight_decay": 0.02, "lr_scheduler_type": "linear"}
    trainers.train_with_transformers(tmp_path / "hf", callback, activation=nn.Identity, dropout=0.0, **sgd)
    records = callback.monitor.records()
    rates = [0.05 * (1.0 - record.step / 9) for record in records]
    assert [record.clock for record in records] == pytest.approx([decay_slope(rate * 0.02).value for rate in rates])


def test_lightning_splits_what_was_transferred(tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("lightning")
    from nrc_fast.integrations.lightning import NRCCallback

    X, Y = trainers.samples()
    loader = [{"given": (X, Y)}]

    class Mapped(Normalising):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            given = batch["given"] if isinstance(batch, dict) else batch
            return super().on_before_batch_transfer(given, dataloader_idx)

    callback = NRCCallback(loader, split=lambda batch: (batch[0], 2.0 * batch[1]))
    _, module = trainers.fit_with_lightning(tmp_path, callback, hooks=(Mapped,))
    with torch.no_grad():
        errors = module.eval()((X + 1.0) * 3.0 / 7.0).double() - Y.double()
    assert callback.monitor.records()[-1].mse == pytest.approx(float((errors**2).sum(dim=1).mean()), rel=1e-5)


def test_a_diverging_lightning_training_goes_on(tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("lightning")
    from nrc_fast.integrations.lightning import NRCCallback

    class Diverging:
        def on_train_epoch_start(self) -> None:
            with torch.no_grad():
                self.trunk[0].weight.fill_(torch.nan)  # type: ignore[attr-defined]

    callback = NRCCallback()
    with pytest.warns(UserWarning, match="Has the training diverged") as told:
        trainer, _ = trainers.fit_with_lightning(tmp_path, callback, hooks=(Diverging,))
    assert sum("diverged" in str(one.message) for one in told) == 1
    records = callback.monitor.records()
    assert trainer.current_epoch == 4
    assert [bool(torch.tensor(record.nrc1).isnan()) for record in records] == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("every", "steps"), [(2, [0, 2, 4, 6, 8, 10, 12]), ("log", [*range(9), 10, 12]), ("3 epochs", [0, 9])]
)
def test_lightning_is_measured_within_epochs(every: int | str, steps: list[int], tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("lightning")
    from nrc_fast.integrations.lightning import NRCCallback

    _, plain = trainers.fit_with_lightning(tmp_path / "plain")
    callback = NRCCallback(every=every)
    _, module = trainers.fit_with_lightning(tmp_path / "watched", callback)
    assert [record.step for record in callback.monitor.records()] == steps
    for first, second in zip(plain.parameters(), module.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("every", ["epoch", 2, "evaluation"])
def test_a_lightning_training_goes_on_with_its_history(every: int | str, tmp_path: Path, trainers: Any) -> None:
    lightning = pytest.importorskip("lightning")
    from nrc_fast.integrations.lightning import NRCCallback

    def fit(name: str, epochs: int, **options: Any) -> tuple[Any, Any, Any]:
        callback = NRCCallback(every=every, loggers=tmp_path / f"{name}.csv")
        saving = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path / name, "{step}", save_top_k=-1)
        module = trainers.without_chance()
        given = {"max_epochs": epochs, "enable_checkpointing": True, "shuffle": False} | options
        return trainers.fitted(tmp_path, module, callback, saving, **given), module, callback

    _, whole_module, whole = fit("whole", 4)
    fit("run", 3)  # of which the last epoch is lost
    trainer, module, resumed = fit("run", 4, ckpt_path=tmp_path / "run" / "step=6.ckpt")
    expected = {"epoch": [0, 3, 6, 9, 12], 2: [0, 2, 4, 6, 8, 10, 12], "evaluation": [3, 6, 9, 12]}[every]
    assert [record.step for record in resumed.monitor.records()] == expected
    assert resumed.monitor.history.to_dict() == whole.monitor.history.to_dict()
    assert (tmp_path / "run.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    for first, second in zip(whole_module.parameters(), module.parameters(), strict=True):
        assert torch.equal(first, second)
    # Of a training that had ended there is no step to make, and all to see.
    _, _, ended = fit("ended", 4, ckpt_path=tmp_path / "run" / "step=12.ckpt")
    assert ended.monitor.history.to_dict() == whole.monitor.history.to_dict()
    # What is no training takes no state up, and leaves no record.
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*trainers.samples()), batch_size=60)
    trainer.validate(module, data, ckpt_path=tmp_path / "run" / "step=3.ckpt", verbose=False)
    assert resumed.monitor.history.to_dict() == whole.monitor.history.to_dict()


def test_a_callback_goes_on_with_its_module_and_begins_anew_with_another(tmp_path: Path, trainers: Any) -> None:
    lightning = pytest.importorskip("lightning")
    from nrc_fast.integrations.lightning import NRCCallback

    callback, module = NRCCallback(), trainers.without_chance()
    trainer = trainers.fitted(tmp_path, module, callback, max_epochs=2, shuffle=False)
    trainer.fit_loop.max_epochs = 3
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*trainers.samples()), batch_size=40)
    trainer.fit(module, data)
    assert [record.step for record in callback.monitor.records()] == [0, 3, 6, 9]
    another = trainers.without_chance()
    trainer = trainers.fitted(tmp_path, another, callback, max_epochs=1, shuffle=False)
    assert callback.monitor.model is another
    assert [record.step for record in callback.monitor.records()] == [0, 3]
    several = [NRCCallback(), NRCCallback(prefix="others/")]
    trainers.fitted(tmp_path, another, *several, max_epochs=1, enable_checkpointing=True, default_root_dir=tmp_path)
    assert len({one.state_key for one in several}) == 2
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `NRCCallback`"):
        lightning.Trainer(callbacks=[NRCCallback(), NRCCallback()])


@pytest.mark.parametrize("step", ["training_step", "validation_step"])
def test_lightning_modules_without_forward(step: str, tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("lightning")
    from nrc_fast.integrations.lightning import NRCCallback

    plain = trainers.without_forward(validates=step == "validation_step")
    trainers.fitted(tmp_path / "plain", plain)
    callback, module = NRCCallback(every="2 epochs"), trainers.without_forward(validates=step == "validation_step")
    trainer = trainers.fitted(tmp_path / "watched", module, callback)
    for first, second in zip(plain.parameters(), module.parameters(), strict=True):
        assert torch.equal(first, second)
    X, Y = trainers.samples()
    with torch.no_grad():
        H = module.trunk.eval()(X)
        errors = (module.head(H) - Y).double()
    record = callback.monitor.history.records("each")[-1]
    assert callback.monitor.layer == "head"
    checked(record, H, module.head.weight.detach(), Y)
    assert record.mse == pytest.approx(float((errors**2).sum(dim=1).mean()), rel=1e-5)
    with (Path(trainer.logger.log_dir) / "metrics.csv").open() as file:
        losses = [row["loss"] for row in csv.DictReader(file) if row["loss"]]
    assert len(losses) == 12  # of the training, none of which ran for the callback
    assert not hasattr(vars(module), "log")


def test_lightning_modules_are_run_as_asked(tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("lightning")
    from nrc_fast.integrations.lightning import NRCCallback

    module = trainers.without_forward(by_hand=True)
    with pytest.raises(
        ValueError, match=r"neither forward nor validation_step, and its training_step optimizes by hand"
    ):
        trainers.fitted(tmp_path, module, NRCCallback())
    callback = NRCCallback(every="4 epochs", run=lambda module, inputs: module.head(module.trunk(2.0 * inputs)))
    trainers.fitted(tmp_path, module, callback)
    with torch.no_grad():
        H = module.trunk.eval()(2.0 * trainers.samples()[0])
    checked(callback.monitor.history.records("each")[-1], H, module.head.weight.detach(), trainers.samples()[1])


# ---- transformers ----


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("features", ["held", "streamed", "again"])
def test_decoders_are_measured_at_their_last_token(side: str, features: str) -> None:
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 50, "n_positions": 16, "num_labels": 2}
        ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
        config = transformers.GPT2Config(**sizes, **ends, problem_type="regression")
        model = transformers.GPT2ForSequenceClassification(config).eval()
        ids = torch.randint(2, 50, (40, 10))
    mask = (torch.arange(10) < 4 + torch.arange(40)[:, None] % 6).long()
    mask = mask.flip(1) if side == "left" else mask
    ids, Y = ids * mask, torch.randn(40, 2, generator=torch.Generator().manual_seed(2))
    loader = [
        {"input_ids": ids[part], "attention_mask": mask[part], "labels": Y[part]} for part in (slice(25), slice(25, 40))
    ]
    given: list[Any] = []
    handle = model.score.register_forward_hook(lambda _, args, output: given.append((args[0], output)))
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    handle.remove()
    where = (given[0][1] == logits[:, None]).all(dim=-1).float().argmax(dim=1)
    H = given[0][0][range(40), where]
    monitor = nrc.Monitor(model, loader, positions="last", mask="attention_mask", features=features)
    record = monitor.evaluate()
    tolerance = 1e-4 if features == "streamed" else 1e-5
    assert record.mse == pytest.approx(float(((logits - Y).double() ** 2).sum(dim=1).mean()), rel=1e-5)
    assert record.nrc1 == pytest.approx(reference_nrc1(H.double().numpy(), 2), rel=tolerance)
    assert record.nrc2 == pytest.approx(reference_nrc2(H.double().numpy(), model.score.weight.detach()), rel=tolerance)


def test_transformers_callback(tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    from nrc_fast.integrations.transformers import NRCCallback

    _, plain = trainers.train_with_transformers(tmp_path / "plain")
    callback = NRCCallback([{"inputs": trainers.samples()[0], "labels": trainers.samples()[1]}])
    trainer, model = trainers.train_with_transformers(tmp_path / "watched", callback)
    for first, second in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(first, second)
    records = callback.monitor.history.records("each")
    assert [record.step for record in records] == [0, 3, 6, 9]
    X, Y = trainers.samples()
    model.eval()
    with torch.no_grad():
        H = model.trunk(X)
    checked(records[-1], H, model.head.weight.detach(), Y)
    logged = [row["nrc/nrc1"] for row in trainer.state.log_history if "nrc/nrc1" in row]
    assert logged == [record.nrc1 for record in records]
    with pytest.raises(TypeError, match="NRCCallback has no option when; those of"):
        NRCCallback(when="evaluate")
    with pytest.raises(ValueError, match="every is 'evaluate'; a number of steps, 'log', 'epoch', 'evaluation'"):
        NRCCallback(every="evaluate")


def test_transformers_callback_after_evaluations_on_the_trainers_own_data(tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    from nrc_fast.integrations.transformers import NRCCallback

    callback = NRCCallback(every="evaluation")
    trainer, model = trainers.train_with_transformers(tmp_path, callback)
    assert callback.monitor is None
    trainer.evaluate()
    (record,) = callback.monitor.history.records()
    with torch.no_grad():
        H = model.eval().trunk(trainers.samples()[0])
    checked(record, H, model.head.weight.detach(), trainers.samples()[1])


@pytest.mark.parametrize(
    ("every", "steps", "workers"),
    [(2, [0, 2, 4, 6, 8], 0), ("log", [*range(9)], 0), ("2 epochs", [0, 6], 0), (4, [0, 4, 8], 1)],
)
def test_transformers_is_measured_within_epochs_on_its_training_data(
    every: int | str, steps: list[int], workers: int, tmp_path: Path, trainers: Any
) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    from nrc_fast.integrations.transformers import NRCCallback

    loading = {"dataloader_num_workers": workers, "dataloader_persistent_workers": workers > 0}
    _, plain = trainers.train_with_transformers(tmp_path / "plain", **loading)
    callback = NRCCallback(every=every)
    _, model = trainers.train_with_transformers(tmp_path / "watched", callback, **loading)
    for first, second in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(first, second)
    assert [record.step for record in callback.monitor.records()] == steps
    assert callback.monitor.report.samples == 120


@pytest.mark.usefixtures("no_kept_rows")
def test_transformers_numbers_reach_every_reporter(tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from nrc_fast.integrations.transformers import NRCCallback

    class Reporter(transformers.TrainerCallback):  # type: ignore[name-defined, misc]
        """As those of Weights & Biases and others, which are told of logs alone."""

        def __init__(self) -> None:
            self.logged: list[tuple[int, dict[str, float]]] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            del args, control
            self.logged.append((state.global_step, dict(logs)))

    loader = [{"inputs": trainers.samples()[0], "labels": trainers.samples()[1]}]
    logs = {"logging_strategy": "steps", "logging_steps": 2}
    plain, _ = trainers.train_with_transformers(tmp_path / "plain", **logs)
    reporter, callback = Reporter(), NRCCallback(loader, every=2, features="streamed")
    given = {"report_to": ["tensorboard"]} | logs
    trainer, _ = trainers.train_with_transformers(tmp_path / "watched", reporter, callback, **given)
    records = callback.monitor.history.records("each")
    assert [record.step for record in records] == [0, 2, 4, 6, 8]
    (folder,) = (tmp_path / "watched" / "runs").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    sent = [(step, logs) for step, logs in reporter.logged if "nrc/nrc1" in logs]
    for name in ("nrc1", "nrc2", "nrc3", "mse"):
        values = [getattr(record, name) for record in records]
        stored = events.Scalars(f"train/nrc/{name}")
        assert [event.step for event in stored] == [step for step, _ in sent] == [0, 2, 4, 6, 8]
        assert [event.value for event in stored] == pytest.approx(values, rel=1e-6)
        assert [logs[f"nrc/{name}"] for _, logs in sent] == values
    assert np.isnan(records[0].nrc1_id25)
    assert not any("nrc/nrc1_id25" in logs for _, logs in sent)
    # What the trainer logs itself is as it was.
    for name in ("loss", "train_loss"):
        expected = [(row["step"], row[name]) for row in plain.state.log_history if name in row]
        assert [(row["step"], row[name]) for row in trainer.state.log_history if name in row] == expected != []


@pytest.mark.parametrize("every", ["epoch", 2, "evaluation"])
def test_a_training_of_transformers_goes_on_with_its_history(every: int | str, tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    from nrc_fast.integrations.transformers import NRCCallback

    loader = [{"inputs": trainers.samples()[0], "labels": trainers.samples()[1]}]

    def train(name: str, **options: Any) -> tuple[Any, Any, Any]:
        callback = NRCCallback(loader, every=every, loggers=tmp_path / f"{name}.jsonl")
        saving = {"save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 4}
        trainer, model = trainers.train_with_transformers(tmp_path / name, callback, **(saving | options))
        return trainer, model, callback

    trainer, whole_model, whole = train("whole")
    evaluated = [row["step"] for row in trainer.state.log_history if "eval_loss" in row]
    train("run")  # of which all after the fourth step is lost
    _, model, resumed = train("run", resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    expected = {"epoch": [0, 3, 6, 9], 2: [0, 2, 4, 6, 8], "evaluation": evaluated}[every]
    assert [record.step for record in resumed.monitor.records()] == expected
    assert resumed.monitor.history.to_dict() == whole.monitor.history.to_dict()
    assert (tmp_path / "run.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    for first, second in zip(whole_model.parameters(), model.parameters(), strict=True):
        assert torch.equal(first, second)


def test_a_training_of_transformers_goes_on_that_was_not_measured(tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    from nrc_fast.integrations.transformers import NRCCallback

    trainers.train_with_transformers(tmp_path, save_strategy="steps", save_steps=4)
    callback = NRCCallback(every=2, prefix="a/")
    others = NRCCallback(every="epoch", prefix="b/")
    resumed = {"resume_from_checkpoint": str(tmp_path / "checkpoint-4"), "save_strategy": "steps", "save_steps": 4}
    trainer, _ = trainers.train_with_transformers(tmp_path, callback, others, **resumed)
    assert [record.step for record in callback.monitor.records()] == [4, 6, 8]
    assert [record.step for record in others.monitor.records()] == [4, 6, 9]
    stored = json.loads((tmp_path / "checkpoint-8" / "trainer_state.json").read_text())["stateful_callbacks"]
    found = {
        name: [row["step"] for row in state["history"]["records"]] for name, state in stored.items() if "/" in name
    }
    assert found == {"nrc_fast a/": [4, 6, 8], "nrc_fast b/": [4, 6]}
    trainer.train()  # from the beginning: the model is the same, and what was measured is measured anew
    assert [record.step for record in callback.monitor.records()] == [0, 2, 4, 6, 8]


def test_a_diverging_training_of_transformers_goes_on(tmp_path: Path, trainers: Any) -> None:
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    from nrc_fast.integrations.transformers import NRCCallback

    class Diverging(transformers.TrainerCallback):  # type: ignore[name-defined, misc]
        def on_epoch_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            del args, state, control
            with torch.no_grad():
                model.trunk[0].weight.fill_(torch.nan)

    callback = NRCCallback()
    with pytest.warns(UserWarning, match="Has the training diverged") as told:
        trainer, _ = trainers.train_with_transformers(tmp_path, Diverging(), callback)
    assert sum("diverged" in str(one.message) for one in told) == 1
    assert trainer.state.global_step == 9
    assert [bool(np.isnan(record.nrc1)) for record in callback.monitor.records()] == [False, True, True, True]


# ---- torchmetrics ----


def test_torchmetrics_metric(trainers: Any) -> None:
    pytest.importorskip("torchmetrics")
    from nrc_fast.integrations.torchmetrics import NRC

    H, Y, head = trainers.draw(300, 8) + 3.0, trainers.draw(300, 2, seed=2), nn.Linear(8, 2)
    expected = nrc.FeatureStatistics(8, n_targets=2).update(H, Y).report(head.weight, head.bias)
    metric = NRC(8, 2, head=head)
    for first in range(0, 300, 100):
        batch = metric(H[first : first + 100], Y[first : first + 100])  # forward: adds, and gives that of the batch
    assert float(batch["nrc1"]) == pytest.approx(reference_nrc1(H[200:], 2), rel=1e-5)
    values = metric.compute()
    for name, value in values.items():
        assert float(value) == pytest.approx(getattr(expected, name), rel=1e-6), name
    assert float(values["nrc1"]) == pytest.approx(reference_nrc1(H, 2), rel=1e-5)
    assert not list(metric.parameters())
    clone = copy.deepcopy(metric)
    metric.reset()
    metric.update(H[:100], Y[:100])
    assert float(metric.compute()["nrc2"]) == pytest.approx(reference_nrc2(H[:100], head.weight), rel=1e-5)
    assert float(clone.half().compute()["nrc2"]) == float(values["nrc2"])
    other = NRC(8, 2, head=head)
    other.update(H[100:], Y[100:])
    metric.merge_state(other)
    assert float(metric.compute()["nrc1"]) == pytest.approx(float(values["nrc1"]), rel=1e-6)  # float32 products
    with pytest.raises(TypeError, match="cannot be merged"):
        metric.merge_state({})


CASTS = {
    "to": lambda module: module.to(torch.bfloat16),
    "half": lambda module: module.half(),
    "bfloat16": lambda module: module.bfloat16(),
    "float": lambda module: module.float(),
    "to another": lambda module: module.to(torch.zeros(1, dtype=torch.float16)),
    "double": lambda module: module.double(),
}


def test_a_metric_takes_its_sizes_from_the_head() -> None:
    pytest.importorskip("torchmetrics")
    from nrc_fast.integrations.torchmetrics import NRC

    head = nn.Linear(8, 2)
    generator = torch.Generator().manual_seed(0)
    X, Y = torch.randn(30, 8, generator=generator), torch.randn(30, 2, generator=generator)
    given = NRC(8, 2, head=head)
    given.update(X, Y)
    for metric in (NRC(head=head), NRC(head=head.weight.detach()), NRC(8, head=head)):
        metric.update(X, Y)
        assert metric.compute()["nrc2"] == given.compute()["nrc2"]
    for call in (NRC, lambda: NRC(8), lambda: NRC(head=nn.ReLU())):
        with pytest.raises(TypeError, match=r"number of features and of targets .* NRC\(d, n_targets\), or NRC\("):
            call()


def test_the_whole_spectrum_of_a_metric() -> None:
    pytest.importorskip("torchmetrics")
    from nrc_fast.integrations.torchmetrics import NRC

    H = np.random.default_rng(0).standard_normal((40, 1030))
    metric = NRC(1030, 1, spectrum="full")
    metric.update(H, H[:, 0])
    centered = H - H.mean(axis=0)
    shares = np.linalg.eigvalsh(centered @ centered.T)[1:]
    shares /= shares.sum()
    assert metric.compute()["effective_rank"].item() == pytest.approx(
        np.exp(-np.sum(shares * np.log(shares))), rel=1e-9
    )
    with pytest.raises(ValueError, match="spectrum is 'all'"):
        NRC(4, 1, spectrum="all")


@pytest.mark.usefixtures("no_kept_rows")
@pytest.mark.parametrize("when", ["before", "between", "after"])
@pytest.mark.parametrize("cast", CASTS)
def test_torchmetrics_sums_stay_float64_where_their_module_is_cast(cast: str, when: str, trainers: Any) -> None:
    pytest.importorskip("torchmetrics")
    from nrc_fast.integrations.torchmetrics import NRC

    H = trainers.draw(600, 6) + 1000.0
    Y = H[:, :2] - 1000.0
    expected = nrc.FeatureStatistics(6, n_targets=2).update(H[:300], Y[:300]).update(H[300:], Y[300:]).report()
    module = nn.Module()
    module.inner = nn.ModuleDict({"metric": NRC(6, 2)})
    metric = module.inner["metric"]
    for _ in range(2):  # and again from what a reset leaves
        for place, part in (("before", None), ("between", slice(300)), ("after", slice(300, 600))):
            if part is not None:
                metric.update(H[part], Y[part])
            if place == when:
                CASTS[cast](module)
        values = metric.compute()
        for name in ("nrc1", "linear_mse", "cka"):
            assert float(values[name]) == getattr(expected, name), name
        assert all(getattr(metric, name).dtype == torch.float64 for name in metric._defaults if name != "reads")
        metric.reset()


def test_torchmetrics_metric_follows_its_head_through_a_training(trainers: Any) -> None:
    pytest.importorskip("torchmetrics")
    from nrc_fast.integrations.torchmetrics import NRC

    torch.manual_seed(0)
    trunk, head = nn.Sequential(nn.Linear(5, 8), nn.Tanh()), nn.Linear(8, 2)
    metric, (X, Y) = NRC(8, 2, head=head), trainers.samples()
    optimizer = torch.optim.SGD([*trunk.parameters(), *head.parameters()], lr=0.1)
    for _ in range(5):
        metric.reset()
        H = trunk(X)
        metric.update(H, Y)
        optimizer.zero_grad()
        nn.functional.mse_loss(head(H), Y).backward()
        values = metric.compute()
        assert float(values["nrc2"]) == pytest.approx(reference_nrc2(H, head.weight), rel=1e-5)
        assert float(values["nrc3"]) == pytest.approx(reference_nrc3(head.weight, Y), rel=1e-6)
        optimizer.step()


@pytest.mark.parametrize("cuts", [[450], [0]], ids=str)
def test_torchmetrics_metric_over_processes(tmp_path: Path, cuts: list[int]) -> None:
    pytest.importorskip("torchmetrics")
    H, Y, W = processes.draw()
    results = processes.run(tmp_path / "run", "torchmetric", H, Y, W, cuts)
    whole = nrc.FeatureStatistics(12, n_targets=2).update(H, Y).report(W)
    for result in results:
        for name in ("nrc1", "nrc2", "nrc3", "cka"):
            assert result[name] == pytest.approx(getattr(whole, name), rel=1e-10)


# ---- several processes ----


@pytest.mark.parametrize(("library", "steps"), [("lightning", [0, 4, 8]), ("transformers", [0, 2, 4, 6])])
def test_trainers_of_several_processes(tmp_path: Path, library: str, steps: list[int], trainers: Any) -> None:
    pytest.importorskip(library)
    if library == "transformers":
        pytest.importorskip("accelerate")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    command = [*launcher, trainers.__file__, str(tmp_path), library]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    first, second = (json.loads((tmp_path / f"result{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["processes"] == 2
    assert first["plain"] == first["watched"]
    assert [step for step, _ in first["records"]] == steps
    weights = {name: torch.tensor(value) for name, value in first["watched"].items()}
    X, Y = trainers.samples()
    H = torch.tanh(nn.functional.linear(X, weights["trunk.0.weight"], weights["trunk.0.bias"]))
    W = weights["head.weight"]
    record = first["records"][-1][1]
    checked(SimpleNamespace(**record), H, W, Y)
    assert first["logged"] == pytest.approx(record["nrc1"], rel=1e-6)


# ---- all ----


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("lightning", "lightning.pytorch.callbacks"),
        ("transformers", "transformers"),
        ("torchmetrics", "torchmetrics"),
        ("sklearn", "sklearn.base"),
    ],
)
def test_missing_libraries_name_their_extra(module: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"nrc_fast.integrations.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning.callbacks", None)
    with pytest.raises(ImportError, match=rf"pip install 'nrc-fast\[{module}\]'"):
        importlib.import_module(name)
