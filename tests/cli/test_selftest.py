"""The selftest runs on every instruction set, and notices a wrong kernel."""

from __future__ import annotations

import json

import pytest

import nrc_fast as nrc
from nrc_fast.cli import main


def test_selftest_passes_and_notices_a_wrong_kernel(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nrc_fast import kernels
    from nrc_fast.cli import selftest

    isa = kernels.current_isa()
    assert main(["selftest", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert {check["isa"] for check in found["checks"]} == set(kernels.available_isas())
    assert kernels.current_isa() == isa
    monkeypatch.setattr(selftest, "nrc2", lambda H, W: nrc.nrc2(H, W) * (1.0 + 1e-4))
    assert main(["selftest"]) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "checks failed" in captured.err
