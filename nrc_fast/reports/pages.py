"""Numbers and plots of reports and histories as one self-contained HTML page: nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
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
from nrc_fast.reports.markup import Markup, element, joined
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
    sections = [element("section", joined("", element("h2", name), _section(part), "")) for name, part in parts]
    head = element("head", joined("", *_meta(), element("title", title), element("style", Markup(STYLE)), ""))
    body = element("body", joined("", element("h1", title), *sections, ""))
    return f"<!DOCTYPE html>\n{element('html', joined('', head, body, ''), lang='en')}\n"


def _meta() -> tuple[Markup, ...]:
    """What a browser is told before all else: nothing but the style and the images of the page itself is used."""
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'"
    return (
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
    )


def write_page(path: str | Path, parts: Iterable[tuple[str, Part]], title: str = "Neural regression collapse") -> None:
    """Write an HTML page to a file, all or nothing; see `page`.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    OSError
        The file cannot be written.
    ValueError
        There is a file that is no text, such as one of features.
    """
    # Numbers of characters stand for those that UTF-8 does not have.
    write_text(path, page(parts, title).encode("utf-8", "xmlcharrefreplace").decode())


def _section(part: Part) -> Markup:
    if isinstance(part, Report):
        return _report_section(part)
    if isinstance(part, History):
        return _history_section(part)
    return _layers_section(part) if isinstance(part, DeepReport) else _classes_section(part)


def _report_section(report: Report) -> Markup:
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
    words = [element("p", text, class_="note") for text in report.notes]
    if report.ufm is not None:
        text = f"rank {report.ufm.rank}, MSE {report.ufm.mse:.4g}, R2 {report.ufm.r2:.4g}, CKA {report.ufm.cka:.4g}"
        words.insert(0, element("p", f"The UFM at c = {report.ufm.c:.4g} predicts {text}."))
    image = _image(report.plot(), f"NRC1 and explained variance against the number of components, {size}")
    return joined(element("p", f"{size}; computed by {report.backend}"), _table(None, rows), *words, image)


def _history_section(history: History) -> Markup:
    records = history.records()
    rows = [tuple(_number(getattr(record, name)) for name in OF_STEPS) for record in records]
    intro = (
        f"{len(records)} evaluations, n = {history.n}, convention {history.convention}; NRC3 is that of the gamma of "
        "the last step."
    )
    image = _image(history.plot(), "NRC1 and NRC2, NRC3, MSE and R2, explained variance, NRC3 against gamma")
    return joined(element("p", intro), image, _table(tuple(OF_STEPS.values()), rows))


def _bound_of(report: Report, convention: str, metric: str) -> float | None:
    return report.alternative_bounds.get(convention, {}).get(metric)


def _layers_section(report: DeepReport) -> Markup:
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
    return joined(element("p", intro), image, _table(("layer", "d", *OF_LAYERS.values()), rows))


def _of_layer(layer: LayerCollapse, name: str) -> str:
    value = getattr(layer, name)
    return "" if math.isnan(value) else format_value(value, layer.bounds.get(name), digits=4)


def _classes_section(report: ClassReport) -> Markup:
    rows = [
        (name, format_value(getattr(report, name), report.bounds.get(name)), about)
        for name, about in VARIANTS.items()
        if not math.isnan(getattr(report, name))
    ]
    intro = f"Neural collapse of {report.samples:,} samples of {report.n_classes} classes, d = {report.d}."
    return joined(element("p", intro), _table(("variant", "value", "what it is"), rows, words=1))


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.4g}"


def _table(header: Sequence[str] | None, rows: Iterable[Sequence[str]], words: int = 0) -> Markup:
    """A table of numbers, but for the first column and the last `words`."""
    lines = [] if header is None else [_row("th", header, words)]
    lines += [_row("td", row, words) for row in rows]
    return element("div", element("table", joined("", *lines, "")), class_="scroll")


def _row(kind: str, texts: Sequence[str], words: int) -> Markup:
    numbers = range(1, len(texts) - words)
    classes = [{"class_": "number"} if k in numbers else {} for k in range(len(texts))]
    cells = (element(kind, _plus_minus(text), **name) for name, text in zip(classes, texts, strict=True))
    return element("tr", *cells)


def _plus_minus(text: str) -> str:
    return text.replace("  +- ", " \u00b1 ").replace("<= ", "\u2264 ")


def _image(figure: Figure, description: str) -> Markup:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return element("p", element("img", alt=description, src=f"data:image/png;base64,{data}"))
