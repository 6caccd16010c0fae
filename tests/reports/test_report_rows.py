"""What is shown of a report: each number once, in its group, in the text as in the card and on the page."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.drawings import cells

import nrc_fast as nrc
from nrc_fast.reports import Report
from nrc_fast.reports.head_context import HEAD_LABELS
from nrc_fast.reports.pages import page
from nrc_fast.reports.records import format_value
from nrc_fast.reports.report_rows import GROUPS, LABELS, grouped_rows, text_lines

HEADINGS = ["collapse of the features", "the head", "the fit", "features and targets"]


def measured(n: int = 2, d: int = 6, **given: Any) -> Report:
    rng = np.random.default_rng(4)
    Y, W = rng.standard_normal((90, n)), rng.standard_normal((n, d))
    H = Y @ np.linalg.pinv(W).T + 0.1 * rng.standard_normal((90, d))
    return nrc.measure(H, Y, W, np.zeros(n), **given)


def labels_of(lines: list[str]) -> dict[str, list[str]]:
    """The names of numbers in a text by the heading that they stand below."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in lines:
        if line.startswith("  "):
            found[heading].append(line[2:54].strip())
        else:
            heading = line
            found[heading] = []
    return found


def test_every_label_has_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(LABELS)


def test_a_text_has_each_number_below_its_heading() -> None:
    report = measured(penalties=SimpleNamespace(c=0.01))
    found = labels_of(text_lines(report))
    assert list(found) == HEADINGS
    assert found["collapse of the features"] == [
        LABELS["nrc1"],
        LABELS["nrc2"],
        *(f"under convention {name}" for name in report.alternatives),
    ]
    assert found["the head"][:3] == [LABELS["nrc3"], LABELS["gamma"], "random heads with a smaller NRC3"]
    assert found["the head"][-3:] == [LABELS[f"balance_{name}"] for name in ("distance", "decay", "asymmetry")]
    assert found["the fit"] == [*(LABELS[name] for name in GROUPS["the fit"]), "UFM at c = 0.01 predicts"]
    assert found["features and targets"][-1] == "explained variance of the first components"
    assert all(len(line.rstrip()) <= 120 for line in text_lines(report))
    assert "\n".join(text_lines(report)) in str(report)


def test_what_is_not_known_leaves_no_heading() -> None:
    H = np.random.default_rng(0).standard_normal((40, 5))
    assert list(labels_of(text_lines(nrc.measure(H, n=2)))) == [HEADINGS[0], HEADINGS[3]]
    assert list(grouped_rows(nrc.measure(H, n=2))) == [HEADINGS[0], HEADINGS[3]]


def test_of_one_target_the_head_has_a_decay_alone() -> None:
    report = measured(n=1)
    decay = format_value(report.balance_decay, report.bounds["balance_decay"])  # type: ignore[arg-type]
    assert grouped_rows(report)["the head"] == [(LABELS["balance_decay"], decay)]
    assert {"One target", "One output"} <= {note.split(":")[0] for note in report.notes}
    assert "note" not in str(report)
    assert report.verdict[1] == "NRC3 is not defined for one target: W W^T is a number and has no shape."


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_page_and_card_have_the_same_rows(gamma: float) -> None:
    report = measured(penalties=SimpleNamespace(c=0.01))
    report = replace(report, gamma=gamma, gamma_share=gamma / 0.5, nrc3_at_zero=0.25)
    groups = grouped_rows(report)
    names = [name for rows in groups.values() for name, _ in rows]
    assert len(names) == len(set(names))
    assert (HEAD_LABELS["nrc3_at_zero"] in names) == (HEAD_LABELS["gamma_share"] in names) == (gamma > 0.0)
    assert "UFM at c = 0.01 predicts MSE" in names
    wanted = [[heading, *([name, value] for name, value in rows)] for heading, rows in groups.items()]
    text = page([("r", report)])
    body = text[text.index("<body>") : text.index("</html>")]
    plain = [[" ".join(cell.split()) for cell in row] for row in cells(body)]
    expected = [
        [part] if isinstance(part, str) else [" ".join(cell.split()) for cell in part]
        for group in wanted
        for part in group
    ]
    signs = str.maketrans({"\u2264": "<=", "\u00b1": "+-", "\u2212": "-"})
    shown = [[cell.translate(signs) for cell in row] for row in plain]
    assert [row for row in shown if row != ["metric", "value"]] == expected
    first_of_card = [row[0] for row in cells(report._repr_html_())]
    assert [name for name in first_of_card if name in {*groups, *names}] == [
        name for heading, rows in groups.items() for name in (heading, *(label for label, _ in rows))
    ]


def test_what_the_verdict_says_is_not_said_again() -> None:
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((200, 2))
    H = np.concatenate([Y, 1e-3 * rng.standard_normal((200, 4))], axis=1) + 3.0 * np.eye(6)[2]
    report = replace(nrc.measure(H, Y, np.eye(2, 6), np.zeros(2)), notes=nrc.measure(H, Y).notes)
    (note,) = report.notes
    assert "lie near an affine plane" in note
    assert report.verdict[0].startswith("Collapsed to an affine plane")
    assert "note" not in str(report)
    assert note not in report._repr_html_()
    assert "An own note." in str(replace(report, notes=(note, "An own note.")))
