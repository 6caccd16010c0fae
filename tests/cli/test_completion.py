"""Shells complete commands, options, choices and files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nrc_fast.cli import main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_scripts_name_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    shtab = pytest.importorskip("shtab")
    if shell not in shtab.SUPPORTED_SHELLS:
        pytest.skip(f"this shtab does not know {shell}")
    text = script(shell, capsys)
    for word in ("measure", "sweep", "completion", "weights-key", "nonfinite", "id25"):
        assert word in text


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    (tmp_path / "nrc-fast.bash").write_text(script("bash", capsys))
    (tmp_path / "features.npy").touch()

    def completed(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in ("nrc-fast", *words))
        code = (
            f"source nrc-fast.bash; COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
            f"function_of=$(complete -p nrc-fast | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
            '$function_of nrc-fast "${COMP_WORDS[COMP_CWORD]}" "" 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        result = subprocess.run([bash, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
        return {word.strip() for word in result.stdout.splitlines()}

    assert completed("mea") == {"measure"}
    assert completed("measure", "--weights") == {"--weights", "--weights-key"}
    assert completed("measure", "--convention", "i") == {"id25"}
    assert completed("measure", "feat") == {"features.npy"}
    assert completed("measure", "--weights", "feat") == {"features.npy"}


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert capsys.readouterr().err == "nrc-fast: completion needs shtab: pip install 'nrc-fast[terminal]'\n"
