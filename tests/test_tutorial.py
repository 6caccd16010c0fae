"""The notebook of the site: it runs in a fresh kernel, and what it shows is what comes out."""

from __future__ import annotations

import base64
import io
import math
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

DOCS = Path(__file__).parents[1] / "docs"
NUMBER = re.compile(r"(?<![\w.])[-\N{MINUS SIGN}]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?")
# What names the processor: instruction set and threads.
MACHINE = re.compile(r"computed by cpu \(.*?\)")
# Of numbers, relative to them, and below which both are rounding: bounds, and values that have fallen to 0.
TOLERANCE, ROUNDING = 0.01, 1e-7
# Of the grey of a figure, from 0 to 1, in the mean over a grid of 40 by 40: fonts differ, curves do not.
GREY, GRID = 0.02, (40, 40)


def cells(notebook: Any, kind: str) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


@cache
def committed() -> Any:
    return nbformat.read(DOCS / "tutorial.ipynb", as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A process of its own, as its kernel has: event loops and sockets are not closed as strictly as tests ask."""
    path = tmp_path_factory.mktemp("tutorial") / "executed.ipynb"
    command = [sys.executable, DOCS / "execute.py", "--out", path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    return nbformat.read(path, as_version=4)


def text_of(output: Any) -> str:
    """What a reader sees of an output: its text, and that of its HTML without the drawings."""
    if output.output_type == "stream":
        return MACHINE.sub("computed by cpu", output.text)
    markup = re.sub(r"<svg.*?</svg>", " ", output.data.get("text/html", ""), flags=re.DOTALL)
    return f"{output.data.get('text/plain', '')} {re.sub(r'<[^>]+>', ' ', markup)}"


def words_and_numbers(text: str) -> tuple[str, list[float]]:
    numbers = [float(number.replace(",", "").replace("\N{MINUS SIGN}", "-")) for number in NUMBER.findall(text)]
    return " ".join(NUMBER.sub("#", text).split()), numbers


def agree(given: float, expected: float) -> bool:
    return math.isclose(given, expected, rel_tol=TOLERANCE, abs_tol=ROUNDING)


def greys(output: Any) -> np.ndarray:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    return np.asarray(image.convert("L").resize(GRID), dtype=float) / 255.0


def test_texts_and_numbers_agree(executed: Any) -> None:
    pairs = list(zip(cells(committed(), "code"), cells(executed, "code"), strict=True))
    assert len(pairs) >= 8
    compared = 0
    for before, now in pairs:
        assert now.outputs
        assert [output.output_type for output in now.outputs] == [output.output_type for output in before.outputs]
        assert all(output.get("name") != "stderr" for output in now.outputs)
        for shown, new in zip(before.outputs, now.outputs, strict=True):
            words, numbers = words_and_numbers(text_of(shown))
            new_words, new_numbers = words_and_numbers(text_of(new))
            assert new_words == words
            assert [pair for pair in zip(numbers, new_numbers, strict=True) if not agree(*pair)] == []
            compared += len(numbers)
    assert compared > 200


def test_figures_agree(executed: Any) -> None:
    def figures(notebook: Any) -> list[np.ndarray]:
        outputs = [output for cell in cells(notebook, "code") for output in cell.outputs if "data" in output]
        return [greys(output) for output in outputs if "image/png" in output.data]

    before, now = figures(committed()), figures(executed)
    assert len(before) == len(now) == 2
    for shown, new in zip(before, now, strict=True):
        assert shown.min() < 0.9
        assert np.abs(shown - new).mean() < GREY


def test_links_lead_to_pages() -> None:
    text = "\n".join(cell.source for cell in cells(committed(), "markdown"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 10
    # Those that begin with # are names of the reference, which `make docs` looks up.
    pages = [target.partition("#")[0] for target in targets if not target.startswith("#nrc_fast.")]
    assert [page for page in pages if not (DOCS / page).is_file()] == []


def test_it_holds_nothing_of_an_editor() -> None:
    """So that a change of a cell is what its difference shows."""
    notebook = committed()
    assert list(notebook.metadata) == ["kernelspec"]
    # What stands for a figure where it is not seen.
    described = [cell.metadata["mystnb"]["image"]["alt"] for cell in notebook.cells if cell.metadata]
    assert len(described) == 2
    assert all(list(cell.metadata) in ([], ["mystnb"]) for cell in notebook.cells)
    assert all(len(line) <= 88 for cell in cells(notebook, "code") for line in cell.source.splitlines())
    assert (DOCS / "tutorial.ipynb").stat().st_size < 350_000
