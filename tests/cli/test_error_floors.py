"""ufm on the command line: the numbers of the floor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nrc_fast.cli import main
from nrc_fast.ufm import predict


@pytest.fixture
def targets(reference: Any) -> Any:
    return reference.targets_with(reference.covariance_with([1.3, 0.4, 0.05], seed=4), 30, [1.0, -2.0, 0.5], seed=5)


def test_command(targets: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "targets.npy", targets)
    stored = str(tmp_path / "targets.npy")
    assert main(["ufm", stored, "--weight-decay", "5e-4"]) == 0
    assert capsys.readouterr().out == f"{predict(targets, weight_decay=5e-4)}\n"
    pytest.importorskip("matplotlib")
    assert main(["ufm", stored, "--c", "0.1", "--plot", str(tmp_path / "floor.png")]) == 0
    assert (tmp_path / "floor.png").stat().st_size > 10_000
    capsys.readouterr()
    for neither_or_both in ([], ["--weight-decay", "0.1", "--c", "0.1"]):
        with pytest.raises(SystemExit) as caught:
            main(["ufm", stored, *neither_or_both])
        assert caught.value.code == 2
        assert "--weight-decay" in capsys.readouterr().err
    assert main(["ufm", stored, "--weight-decay", "-1"]) == 1
    assert "at least 0" in capsys.readouterr().err


def test_layers(targets: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "targets.npy", targets)
    command = ["ufm", str(tmp_path / "targets.npy"), "--weight-decay", "0.1", "--layers", "3"]
    floor = predict(targets, weight_decay=0.1, layers=3)
    assert main(command) == 0
    assert capsys.readouterr().out == f"{floor}\n"
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(floor.to_dict()))
    assert main([*command, "--feature-decay", "0.1"]) == 1
    assert "--layers goes with --weight-decay alone" in capsys.readouterr().err


def test_json_holds_the_numbers_of_the_floor(targets: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "targets.npy", targets)
    stored = str(tmp_path / "targets.npy")
    assert main(["ufm", stored, "--weight-decay", "0.3", "--feature-decay", "0.2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    floor = predict(targets, weight_decay=0.3, feature_decay=0.2)
    for name in ("c", "weight_decay", "variance", "rank", "mse_floor", "r2_ceiling"):
        assert printed[name] == getattr(floor, name)
    for name in ("single_task_floor", "standardized_floor", "whitened_floor"):
        assert printed[name] == getattr(floor, name)
    assert printed["penalties"]["lambda_H"] == floor.penalties.lambda_H
    covariance = np.cov(targets.T, bias=True)
    vectors = np.array(printed["directions"])
    np.testing.assert_allclose(covariance @ vectors.T, vectors.T * printed["eigenvalues"], atol=1e-12)
    assert predict(targets, weight_decay=1.01 * printed["critical_weight_decays"][-1]).rank == floor.n - 1
    assert main(["ufm", stored, "--c", "0.1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["weight_decay"] is None
    assert printed["penalties"] is None


def test_fewer_features_than_outputs(targets: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "targets.npy", targets)
    arguments = ["ufm", str(tmp_path / "targets.npy"), "--c", "0.01"]
    assert main([*arguments, "--d", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    floor = predict(targets, c=0.01, d=1)
    assert (printed["d"], printed["rank"], printed["mse_floor"]) == (1, 1, floor.mse_floor)
    assert printed["whitened_floor"] is None
    values = np.linalg.eigvalsh(np.cov(targets.T, bias=True))
    assert printed["mse_floor"] == pytest.approx(0.01 + values[:-1].sum(), rel=1e-12)
    assert main([*arguments, "--d", "0"]) == 1
    assert "d is 0; a number of features from 1 on is expected" in capsys.readouterr().err
