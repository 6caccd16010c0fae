"""`nrc-fast compare`: the table, the figure and the page of several files."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import results
from support.commands import Page

import nrc_fast as nrc
from nrc_fast.cli import main


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A training and a report in files of one name, and one of another."""
    for folder, result in (("a", results.history()), ("b", results.report())):
        (tmp_path / folder).mkdir()
        result.to_json(tmp_path / folder / "run.json")
    results.report(1).to_json(tmp_path / "other.json")
    return [str(tmp_path / name) for name in ("a/run.json", "b/run.json", "other.json")]


def test_the_table_is_that_of_the_library(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files]) == 0
    names = [name.removesuffix(".json") for name in files[:2]]
    runs = {names[0]: results.history(), names[1]: results.report(), "other": results.report(1)}
    assert capsys.readouterr().out == f"{nrc.compare(runs)}\n"
    assert main(["compare", *files, "--gamma", "0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"][names[0]]["nrc3"] == results.history().records(0.5)[-1].nrc3
    assert found["runs"]["other"]["step"] is None


def test_a_file_of_several_gives_each_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = {"one": results.history().to_dict(), "two": results.history(seed=1).to_dict()}
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(several))
    sources = [str(tmp_path / f"{name}.json") for name in ("a", "b")]
    assert main(["compare", sources[0], "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["runs"]) == ["one", "two"]
    assert main(["compare", *sources, "--json"]) == 0
    names = [f"{tmp_path / source}: {run}" for source in ("a", "b") for run in ("one", "two")]
    assert list(json.loads(capsys.readouterr().out)["runs"]) == names
    assert main(["compare", sources[0], sources[0]]) == 1
    assert capsys.readouterr().err == f"nrc-fast: {sources[0]} was given twice\n"


def test_figure_and_page_are_written(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    plot, html = tmp_path / "runs.svg", tmp_path / "runs.html"
    assert main(["compare", *files, "--plot", str(plot), "--html", str(html)]) == 0
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    page = Page(html.read_text(encoding="utf-8"))
    assert "Runs side by side" in html.read_text(encoding="utf-8")
    assert "other" in page.cells
    capsys.readouterr()
    assert main(["compare", *files, "--plot", files[0]]) == 1
    assert "--plot" in capsys.readouterr().err


def test_what_has_no_numbers_in_common_is_an_error(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results.classes().to_json(tmp_path / "classes.json")
    assert main(["compare", files[2], str(tmp_path / "classes.json")]) == 1
    assert "what is compared has to have numbers in common" in capsys.readouterr().err
    (tmp_path / "both.json").write_text(
        json.dumps({"a": json.loads(results.report().to_json()), "b": json.loads(results.classes().to_json())})
    )
    assert main(["plot", str(tmp_path / "both.json"), "-o", str(tmp_path / "both.png")]) == 1
    assert "holds results that cannot be drawn together: a is a Report, b is a ClassReport" in capsys.readouterr().err
