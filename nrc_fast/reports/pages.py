"""Numbers and plots of reports and histories as one self-contained HTML page: nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nrc_fast.base.files import write_text
from nrc_fast.metrics.classes import VARIANTS
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.features import LABELS, Report
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport, LayerCollapse
from nrc_fast.reports.records import format_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["page", "write_page"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th.number, td.number { text-align: right; }
td.number { white-space: nowrap; }
img { max-width: 100%; height: auto; }
.note { background: #fff6dd; border-left: 4px solid #e69f00; padding: .5rem .8rem; margin: .5rem 0; }
.scroll { overflow-x: auto; }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd; } th, td { border-color: #444; } .note { background: #3a3116; }
  img { background: #fff; }
}
"""


Part = Report | History | DeepReport | ClassReport

# Short names of what a history and a report of layers hold.
OF_STEPS = {
    "step": "step",
    "mse": "MSE",
    "r2": "R2",
    "nrc1": "NRC1",
    "nrc2": "NRC2",
    "nrc3": "NRC3",
    "gamma": "gamma",
    "explained_variance": "explained variance",
    "nrc1_id25": "NRC1, id25",
    "nrc1_variance": "NRC1, variance",
}
OF_LAYERS = {
    "noise_fraction": "noise fraction",
    "signal_alignment": "signal alignment",
    "weight_alignment": "weight alignment",
    "linear_mse": "MSE of linear readout",
    "feature_stable_rank": "stable rank, features",
    "weight_stable_rank": "stable rank, weights",
}


def page(parts: Iterable[tuple[str, Part]], title: str = "Neural regression collapse") -> str:
    """An HTML page.

    Parameters
    ----------
    parts : pairs of a heading and a Report, History, DeepReport or ClassReport
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
        body = _section(part)
        sections.append(f"<section>\n<h2>{html.escape(heading)}</h2>\n{body}\n</section>")
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    head += f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>"
    content = "\n".join([f"<h1>{html.escape(title)}</h1>", *sections])
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{content}\n</body>\n</html>\n'


def write_page(path: str | Path, parts: Iterable[tuple[str, Part]], title: str = "Neural regression collapse") -> None:
    """Write an HTML page to a file, all or nothing; see `page`.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    OSError
        The file cannot be written.
    """
    write_text(path, page(parts, title))


def _section(part: Part) -> str:
    if isinstance(part, Report):
        return _report_section(part)
    if isinstance(part, History):
        return _history_section(part)
    return _layers_section(part) if isinstance(part, DeepReport) else _classes_section(part)


def _report_section(report: Report) -> str:
    size = f"{report.samples:,} samples, d = {report.d}, n = {report.n}, {report.dtype}; convention {report.convention}"
    rows = [
        (label, format_value(getattr(report, name), report.bounds.get(name)))
        for name, label in LABELS.items()
        if not math.isnan(getattr(report, name))
    ]
    rows += [
        (f"{metric.upper()} under convention {name}", format_value(value, _bound_of(report, name, metric)))
        for name, values in report.alternatives.items()
        for metric, value in values.items()
        if not math.isnan(value)
    ]
    prediction = ""
    if report.ufm is not None:
        text = f"rank {report.ufm.rank}, MSE {report.ufm.mse:.4g}, R2 {report.ufm.r2:.4g}, CKA {report.ufm.cka:.4g}"
        prediction = f"<p>The UFM at c = {report.ufm.c:.4g} predicts {text}.</p>\n"
    notes = "\n".join(f'<p class="note">{html.escape(note)}</p>' for note in report.notes)
    image = _image(report.plot()[0], f"NRC1 and explained variance against the number of components, {size}")
    intro = f"<p>{html.escape(size)}; computed by {html.escape(report.backend)}</p>"
    return f"{intro}\n{_table(None, rows)}\n{prediction}{notes}\n{image}"


def _history_section(history: History) -> str:
    records = history.records()
    rows = [tuple(_number(getattr(record, name)) for name in OF_STEPS) for record in records]
    intro = (
        f"{len(records)} evaluations, n = {history.n}, convention {history.convention}; NRC3 is that of the gamma of "
        "the last step."
    )
    image = _image(history.plot(), "NRC1 and NRC2, NRC3, MSE and R2, explained variance, NRC3 against gamma")
    return f"<p>{intro}</p>\n{image}\n{_table(tuple(OF_STEPS.values()), rows)}"


def _bound_of(report: Report, convention: str, metric: str) -> float | None:
    return report.alternative_bounds.get(convention, {}).get(metric)


def _layers_section(report: DeepReport) -> str:
    found = report.first_collapsed
    first = f"The first collapsed layer is {found}" if found else "No layer is collapsed"
    intro = (
        f"Deep NRC of what the layers are given: {report.samples:,} samples, n = {report.n}. MSE of the network "
        f"{report.mse:.4g}; variance of the targets {report.target_variance:.4g}, their stable rank "
        f"{report.target_stable_rank:.3g}. {first} (noise fraction below {report.threshold:g} here and in all later "
        "layers)."
    )
    rows = [(layer.name, str(layer.d), *(_of_layer(layer, name) for name in OF_LAYERS)) for layer in report.layers]
    image = _image(report.plot(), "Deep NRC: a row for each metric, a column for each layer")
    return f"<p>{html.escape(intro)}</p>\n{image}\n{_table(('layer', 'd', *OF_LAYERS.values()), rows)}"


def _of_layer(layer: LayerCollapse, name: str) -> str:
    value = getattr(layer, name)
    return "" if math.isnan(value) else format_value(value, layer.bounds.get(name), digits=4)


def _classes_section(report: ClassReport) -> str:
    rows = [
        (name, format_value(getattr(report, name), report.bounds.get(name)), about)
        for name, about in VARIANTS.items()
        if not math.isnan(getattr(report, name))
    ]
    intro = f"Neural collapse of {report.samples:,} samples of {report.n_classes} classes, d = {report.d}."
    return f"<p>{intro}</p>\n{_table(('variant', 'value', 'what it is'), rows, words=1)}"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.4g}"


def _table(header: Sequence[str] | None, rows: Iterable[Sequence[str]], words: int = 0) -> str:
    """A table of numbers, but for the first column and the last `words`."""
    lines = [] if header is None else [_row("th", header, words)]
    lines += [_row("td", row, words) for row in rows]
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _row(kind: str, texts: Sequence[str], words: int) -> str:
    numbers = range(1, len(texts) - words)
    classes = [' class="number"' if k in numbers else "" for k in range(len(texts))]
    cells = (
        f"<{kind}{name}>{html.escape(_plus_minus(text))}</{kind}>" for name, text in zip(classes, texts, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _plus_minus(text: str) -> str:
    return text.replace("  +- ", " \u00b1 ").replace("<= ", "\u2264 ")


def _image(figure: Figure, description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<p><img alt="{html.escape(description, quote=True)}" src="data:image/png;base64,{data}"></p>'
