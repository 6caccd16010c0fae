"""Numbers and plots of reports and histories as one self-contained HTML page: nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nrc_fast.history import History
from nrc_fast.report import LABELS, Report, format_value

__all__ = ["page", "write_page"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number { text-align: right; white-space: nowrap; }
img { max-width: 100%; height: auto; }
.note { background: #fff6dd; border-left: 4px solid #e69f00; padding: .5rem .8rem; margin: .5rem 0; }
.scroll { overflow-x: auto; }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd; } th, td { border-color: #444; } .note { background: #3a3116; }
  img { background: #fff; }
}
"""


def page(parts: Iterable[tuple[str, Report | History]], title: str = "Neural regression collapse") -> str:
    """An HTML page.

    Parameters
    ----------
    parts : pairs of a heading and a Report or History
    title : str

    Returns
    -------
    str
        Plots are PNG images inside the page.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    sections = []
    for heading, part in parts:
        body = _report_section(part) if isinstance(part, Report) else _history_section(part)
        sections.append(f"<section>\n<h2>{html.escape(heading)}</h2>\n{body}\n</section>")
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    head += f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>"
    content = "\n".join([f"<h1>{html.escape(title)}</h1>", *sections])
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{content}\n</body>\n</html>\n'


def write_page(
    path: str | Path, parts: Iterable[tuple[str, Report | History]], title: str = "Neural regression collapse"
) -> None:
    """Write `page` to a file.

    Raises
    ------
    ImportError
        As `page`.
    OSError
        The file cannot be written.
    """
    Path(path).write_text(page(parts, title), encoding="utf-8")


def _report_section(report: Report) -> str:
    size = f"{report.samples:,} samples, d = {report.d}, n = {report.n}, {report.dtype}; convention {report.convention}"
    rows = [
        (label, format_value(getattr(report, name), report.bounds.get(name)))
        for name, label in LABELS.items()
        if not math.isnan(getattr(report, name))
    ]
    rows += [
        (f"{metric.upper()} under convention {name}", f"{value:.4g}")
        for name, values in report.alternatives.items()
        for metric, value in values.items()
        if not math.isnan(value)
    ]
    if report.ufm is not None:
        text = f"rank {report.ufm.rank}, MSE {report.ufm.mse:.4g}, R2 {report.ufm.r2:.4g}, CKA {report.ufm.cka:.4g}"
        rows.append((f"UFM at c = {report.ufm.c:.4g} predicts", text))
    notes = "\n".join(f'<p class="note">{html.escape(note)}</p>' for note in report.notes)
    image = _image(report.plot()[0], f"NRC1 and explained variance against the number of components, {size}")
    return (
        f"<p>{html.escape(size)}; computed by {html.escape(report.backend)}</p>\n{_table(None, rows)}\n{notes}\n{image}"
    )


def _history_section(history: History) -> str:
    records = history.records()
    names = ("step", "mse", "r2", "nrc1", "nrc2", "nrc3", "gamma", "explained_variance", "nrc1_id25", "nrc1_variance")
    rows = [tuple(_number(getattr(record, name)) for name in names) for record in records]
    intro = (
        f"{len(records)} evaluations, n = {history.n}, convention {history.convention}; NRC3 is that of the gamma of "
        "the last step."
    )
    image = _image(history.plot(), "NRC1 and NRC2, NRC3, MSE and R2, explained variance, NRC3 against gamma")
    header = tuple(name.replace("_", " ") for name in names)
    return f"<p>{intro}</p>\n{image}\n{_table(header, rows)}"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.4g}"


def _table(header: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    lines = []
    if header is not None:
        lines.append("<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in header) + "</tr>")
    for first, *others in rows:
        kind = "td" if header is None else 'td class="number"'
        cells = "".join(f'<td class="number">{html.escape(text)}</td>' for text in others)
        lines.append(f"<tr><{kind}>{html.escape(first)}</td>{cells}</tr>")
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _image(figure: Any, description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<p><img alt="{html.escape(description, quote=True)}" src="data:image/png;base64,{data}"></p>'
