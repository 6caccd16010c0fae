"""README's table and the roofline plot, from a result file that `bench/run.py --out` wrote.

python bench/report.py bench/results/cpu.json --readme README.md --plot bench/results/roofline.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

START, END = "<!-- bench: written by bench/report.py -->", "<!-- bench: end -->"

# Rows of the table: routine, what picks the rows, and how the work is called.
WORK = [
    ("nrc1", {"rows": 400_000, "d": 256}, "NRC1, 400,000 x 256 float32"),
    ("nrc1", {"rows": 1_000_000, "d": 64}, "NRC1, 1,000,000 x 64 float32"),
    ("gram", {"d": 256, "dtype": "float32"}, "Gram, 400,000 x 256 float32"),
    ("gram", {"d": 1024, "dtype": "float32"}, "Gram, 100,000 x 1024 float32"),
    ("gram", {"d": 1024, "dtype": "float64"}, "Gram, 100,000 x 1024 float64"),
    ("residual", {"d": 256, "dtype": "float32", "k": 3}, "residual on 3 vectors, 400,000 x 256 float32"),
    ("all_k", {"d": 256}, "NRC1 for every k, 20,000 x 256"),
    ("nrc3", {"k": 8}, "NRC3 at its best gamma, n = 8"),
]


def picked(rows: list[dict[str, Any]], routine: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of one piece of work, ours first."""
    chosen = [row for row in rows if row["routine"] == routine and facts.items() <= row.items()]
    return sorted(chosen, key=lambda row: (not row["contender"].startswith("nrc_fast"), row["seconds"]))


def table(record: dict[str, Any]) -> str:
    """The table as Markdown: our time and error, and those of the fastest rival."""
    lines = [
        "| work | nrc_fast | error | share of the machine's limit | fastest rival | time | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for routine, facts, title in WORK:
        rows = picked(record["rows"], routine, facts)
        if not rows:
            continue
        ours, rival = rows[0], next(row for row in rows if not row["contender"].startswith("nrc_fast"))
        share = f"{100 * ours['share of limit']:.0f}% ({ours['limit']})" if "share of limit" in ours else ""
        lines.append(
            f"| {title} | **{seconds(ours['seconds'])}** | {ours['error']:.0e} | {share} | {rival['contender']} | "
            f"{seconds(rival['seconds'])} ({rival['seconds'] / ours['seconds']:.3g}x) | {rival['error']:.0e} |"
        )
    facts = record["machine"]
    where = f"{facts['processor']}, {facts['isa']}, {facts['threads of all contenders']} threads, {facts['date']}"
    return "\n".join([*lines, "", f"Measured with `{record['command']}` on {where}; medians of interleaved runs."])


def seconds(value: float) -> str:
    """A time in a fitting unit.

    >>> seconds(0.0123), seconds(2.5), seconds(4e-5)
    ('12 ms', '2.5 s', '40 us')
    """
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= factor:
            return f"{value / factor:.2g} {unit}" if value < 100 * factor else f"{value / factor:.0f} {unit}"
    return f"{value * 1e9:.0f} ns"


def plot_roofline(record: dict[str, Any], path: Path) -> None:
    """Rates of the Gram and residual kernels under the two limits of the machine."""
    import numpy as np
    from matplotlib.figure import Figure

    limits = record["limits"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    intensity = np.logspace(-1, 4, 200)
    for dtype, style in (("float32", "-"), ("float64", "--")):
        roof = np.minimum(limits[f"{dtype} flops"], intensity * limits["read bytes"])
        axes.plot(intensity, roof / 1e9, "k" + style, linewidth=1, label=f"limit in {dtype}")
    for routine, marker in (("gram", "o"), ("residual", "s")):
        for contender, colour in (("nrc_fast", "C0"), ("numpy", "C1"), ("torch", "C2")):
            rows = [
                row
                for row in record["rows"]
                if row["routine"] == routine and row["contender"].startswith(contender) and row.get("flops")
            ]
            if rows:
                x = [row["flops"] / row["bytes read"] for row in rows]
                y = [row["flops"] / row["seconds"] / 1e9 for row in rows]
                axes.plot(x, y, colour + marker, markersize=4, label=f"{routine}, {contender}")
    axes.set(xscale="log", yscale="log", xlabel="operations per byte of H", ylabel="10^9 useful operations per second")
    axes.set_title(f"{record['machine']['processor']}, {record['machine']['threads of all contenders']} threads")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--readme", type=Path, help="replace the table between its two marks")
    parser.add_argument("--plot", type=Path, help="draw the roofline to this file")
    options = parser.parse_args()
    record = json.loads(options.results.read_text(encoding="utf-8"))
    text = table(record)
    print(text)
    if options.readme is not None:
        before, rest = options.readme.read_text(encoding="utf-8").split(START)
        after = rest.split(END)[1]
        options.readme.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")
    if options.plot is not None:
        plot_roofline(record, options.plot)


if __name__ == "__main__":
    main()
