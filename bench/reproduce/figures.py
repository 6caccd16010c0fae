"""Draws every figure of docs/papers.md and writes its tables, from the committed results alone.

    python bench/reproduce/figures.py

The figures are docs/figures/papers_*.png. In the page what stands between two markers is replaced.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

sys.path[0] = str(Path(__file__).resolve().parents[1])  # of the package, in place of this folder

from reproduce.drawings import DRAWINGS  # noqa: E402 - after the path
from reproduce.page import PAGE, with_tables  # noqa: E402
from reproduce.seeds import settings  # noqa: E402

FIGURES = PAGE.parent / "figures"


def _save(figure: Figure, path: Path) -> None:
    """In 256 colours, which is all that lines need."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=90)
    Image.open(drawn).convert("RGB").quantize(256).save(path, optimize=True)


def main() -> int:
    """Draw and write."""
    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 10, "axes.titlesize": 10, "legend.fontsize": 8})
    for name, (group, data, draw) in DRAWINGS.items():
        if not settings(group, data):
            print(f"no run of group {group} is done; papers_{name}.png is left as it is")
            continue
        figure = draw()
        _save(figure, FIGURES / f"papers_{name}.png")
        print(f"docs/figures/papers_{name}.png", flush=True)
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_tables(text), encoding="utf-8")
    print("docs/papers.md", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
