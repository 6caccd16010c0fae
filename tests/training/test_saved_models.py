"""Checkpoints of a training in the order of its steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


SHRINKING = """
import os, sys, torch
from nrc_fast.training.saved_models import load_weights
weights = load_weights(sys.argv[1])["w"]
os.truncate(sys.argv[1], 4096)
print(float(weights.double().sum()))
"""


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_outlive_their_file(suffix: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / f"step_1{suffix}"
    weights = {"w": torch.ones(500, 1000)}
    if suffix == ".pt":
        torch.save(weights, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(weights, path)
    done = subprocess.run(
        [sys.executable, "-c", SHRINKING, path], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "500000.0"), done.stderr
