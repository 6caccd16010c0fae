"""Checkpoints of a training in the order of its steps."""

from __future__ import annotations

import pytest

from nrc_fast.training.saved_models import step_of


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("epoch=3-val_loss=0.42.ckpt", 3),
        ("epoch=3-step=400-v1.ckpt", 400),
        ("loss-0.25.pt", None),
        ("global_step_7/mp_rank_00_states.pt", 7),
        ("out/checkpoint-500/model.safetensors", 500),
        ("checkpoint-500/epoch2.pt", 2),
        ("iter_0007.pt", 7),
        ("resnet-12.pt", 12),
    ],
)
def test_steps_are_read_from_names(path: str, step: int | None) -> None:
    assert step_of(path) == step
