"""README's table, a longer one, a page with every row and target, and the roofline, from what `bench/run.py` wrote.

python bench/report.py                                      # shows the table and the targets of bench/results/cpu.json
python bench/report.py --readme README.md --summary bench/results/summary.md --page bench/results/cpu.md
python bench/report.py --plot bench/results/roofline.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from findings import where
from targets import TARGETS

RESULTS = Path(__file__).with_name("results") / "cpu.json"
# Rows that were measured later than all others; README has these, and from cpu.json what they lack.
LATER = RESULTS.with_name("cpu_reports.json")
START, END = "<!-- bench: written by bench/report.py from bench/results/cpu.json -->", "<!-- bench: end -->"
OURS = "nrc_fast"
SUMMARY = """\
# Time and error beside those of others

Written by `bench/report.py` from cpu_reports.json and cpu.json.

"""

WIDE = {"rows": 20_000, "d": 4096, "dtype": "float32", "k": 3}
# Rows of the summary: routine, what picks the rows, how the work is called, and a part of the rival's name; the
# fastest rival where there is none.
WORK: list[tuple[str, dict[str, Any], str, str]] = [
    ("nrc1", {"rows": 400_000, "d": 256, "dtype": "float32", "k": 3}, "NRC1, 400,000 x 256 float32", ""),
    ("nrc1", {"rows": 400_000, "d": 256, "dtype": "float32", "k": 3}, "the same", "code of arXiv"),
    ("nrc1", {"rows": 1_000_000, "d": 64, "dtype": "float32", "k": 3}, "NRC1, 1,000,000 x 64 float32", ""),
    ("nrc1", WIDE | {"kind": "collapsed"}, "NRC1, 20,000 x 4,096 float32, collapsed features", ""),
    ("nrc1", WIDE | {"kind": "collapsed"}, "the same", "scikit-learn PCA, numpy"),
    ("nrc1", WIDE | {"kind": "power"}, "NRC1, 20,000 x 4,096 float32, spectrum j^-1/2", ""),
    ("nrc1", WIDE | {"kind": "power"}, "the same", "scikit-learn PCA, numpy"),
    ("measure", {"rows": 400_000, "d": 256, "dtype": "float32", "k": 3}, "whole report, 400,000 x 256 float32", ""),
    ("all_k", {"rows": 20_000, "d": 256, "dtype": "float64"}, "NRC1 for every k, 20,000 x 256 float64", ""),
    ("nrc3", {"k": 8}, "NRC3 at its best gamma, n = 8", ""),
    ("nrc3_gamma", {"k": 8}, "that gamma, n = 8", ""),
    ("cka", {"rows": 400_000, "d": 256}, "CKA, 400,000 x 256 float32", ""),
    ("cka", {"rows": 4_000, "d": 256}, "CKA, 4,000 x 256 float32", ""),
    ("cka", {"rows": 4_000, "d": 256}, "the same", "N x N"),
    ("gram", {"rows": 400_000, "d": 256, "dtype": "float32"}, "Gram, 400,000 x 256 float32", ""),
    ("gram", {"rows": 400_000, "d": 256, "dtype": "bfloat16"}, "Gram, 400,000 x 256 bfloat16", ""),
    ("gram", {"rows": 100_000, "d": 1024, "dtype": "float32"}, "Gram, 100,000 x 1024 float32", ""),
    ("gram", {"rows": 100_000, "d": 1024, "dtype": "float64"}, "Gram, 100,000 x 1024 float64", ""),
    ("residual", {"rows": 400_000, "d": 256, "dtype": "float32", "k": 3}, "residual on 3 vectors, 400,000 x 256", ""),
]
# README's first screen has the first of each of these.
SHORT = (
    "NRC1, 400,000 x 256 float32",
    "NRC1, 1,000,000 x 64 float32",
    "NRC1, 20,000 x 4,096 float32, collapsed features",
    "whole report, 400,000 x 256 float32",
    "NRC1 for every k, 20,000 x 256 float64",
)


def is_ours(row: dict[str, Any]) -> bool:
    """Whether it is a row of this package."""
    return str(row["contender"]).startswith(OURS)


def picked(rows: list[dict[str, Any]], routine: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of one piece of work on rows in one piece, that were measured: the first of ours, then from the fastest."""
    wanted = facts | {"routine": routine}
    found = [
        row for row in rows if "seconds" in row and wanted.items() <= row.items() and row.get("layout") != "strided"
    ]
    return [*[row for row in found if is_ours(row)][:1], *sorted((r for r in found if not is_ours(r)), key=_seconds)]


def _seconds(row: dict[str, Any]) -> float:
    return float(row["seconds"])


def summary(*records: dict[str, Any]) -> str:
    """The longer table as a page, with the commands that measured it."""
    lines, used = _table(WORK, records)
    return SUMMARY + "\n\n".join(["\n".join(lines), *map(_measured_on, used)]) + "\n"


def short_table(*records: dict[str, Any]) -> str:
    """README's table, with where and when it was measured."""
    lines, used = _table([work for work in WORK if work[2] in SHORT], records)
    dates: dict[str, list[str]] = {}
    for record in used:
        dates.setdefault(_machine(record), []).append(record["machine"]["date"])
    machines = "; ".join(f"{machine}, {' and '.join(found)}" for machine, found in dates.items())
    return "\n\n".join(["\n".join(lines), f"Medians of interleaved runs on {machines}. Errors are against float64."])


def _table(
    works: list[tuple[str, dict[str, Any], str, str]], records: tuple[dict[str, Any], ...]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Our time and error, and those of a rival, from the first record that has them; and the records that have."""
    lines = [
        "| work | nrc_fast | error | of the machine's limit | rival | its time | its error |",
        "|---|---|---|---|---|---|---|",
    ]
    used = []
    for routine, facts, title, part in works:
        found = next(filter(None, (_compared(record, routine, facts, part) for record in records)), None)
        if found is None:
            continue
        record, ours, rival = found
        used.append(record)
        times = rival["seconds"] / ours["seconds"]
        cells = [
            *(title, f"**{seconds(ours['seconds'])}**{_memory(record, ours)}", f"{ours['error']:.0e}", _share(ours)),
            *(rival["contender"], f"{seconds(rival['seconds'])} ({times:.3g}x){_memory(record, rival)}"),
            f"{rival['error']:.0e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines, [record for record in records if record in used]


def _compared(
    record: dict[str, Any], routine: str, facts: dict[str, Any], part: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None:
    """The record, our row of a piece of work and that of the rival; None where one of them was not measured."""
    rows = picked(record["rows"], routine, facts)
    rivals = [row for row in rows if not is_ours(row) and part in row["contender"]]
    return (record, rows[0], rivals[0]) if rivals and is_ours(rows[0]) else None


def _share(row: dict[str, Any]) -> str:
    if "share of limit" not in row:
        return ""
    return f"{row['share of limit']:.0%} ({row['limit']}{', exceeded' if _exceeds(row) else ''})"


def _exceeds(row: dict[str, Any]) -> bool:
    return bool(row.get("share of limit", 0.0) > 1.0)


def exceeded(record: dict[str, Any]) -> str:
    """Which rows are faster than the limit, which is none for them; nothing where there are none."""
    rows = [row for row in record["rows"] if _exceeds(row)]
    found = ", ".join(f"{row['routine']} {row['contender']}, {where(row)}: {row['share of limit']:.0%}" for row in rows)
    return f"**Faster than the probed limit**, which is none for these: {found}." if rows else ""


def _memory(record: dict[str, Any], row: dict[str, Any]) -> str:
    """What it needs beyond the features, where that was measured."""
    same = {name: row.get(name) for name in ("rows", "d", "dtype", "k", "contender")} | {"routine": "memory"}
    found = [one["MB beyond H"] for one in record["rows"] if "MB beyond H" in one and same.items() <= one.items()]
    return f", {found[0]:.0f} MB" if found else ""


def _measured_on(record: dict[str, Any]) -> str:
    return (
        f"Medians of interleaved runs with `{record['command']}` on {_machine(record)}, {record['machine']['date']}; "
        "error against float64; MB beyond the features. The rival is the fastest of all that were run, or the one "
        "named."
    )


def _machine(record: dict[str, Any]) -> str:
    facts = record["machine"]
    return f"{facts['processor']}, {facts['isa']}, threads: {facts['threads of all contenders']}"


def targets_table(record: dict[str, Any]) -> str:
    """Each target with what was measured, the worst of all rows that it speaks of."""
    lines = ["| work | target | measured (worst case) | |", "|---|---|---|---|"]
    for target in TARGETS:
        measured, verdict = target.verdict(record["rows"])
        lines.append(f"| {target.work} | {target.target} | {measured} | {verdict} |")
    return "\n".join(lines)


def page(record: dict[str, Any]) -> str:
    """Everything in a result file: the machine, its limits, the targets and every row."""
    facts = [f"| {name} | {value} |" for name, value in record["machine"].items()]
    for moment in ("limits", "limits at the start", "limits at the end"):
        facts += [f"| {moment}: {name} | {value / 1e9:.4g} 10^9/s |" for name, value in record.get(moment, {}).items()]
    parts = [
        "# Results",
        "Written by `bench/report.py`; what the columns mean is in `bench/README.md`.",
        _measured_on(record),
        "\n".join(["| | |", "|---|---|", *facts]),
        *filter(None, [exceeded(record)]),
        "## Targets",
        targets_table(record),
    ]
    for routine in dict.fromkeys(row["routine"] for row in record["rows"]):
        parts += [f"## {routine}", _rows_table([row for row in record["rows"] if row["routine"] == routine])]
    return "\n\n".join(parts) + "\n"


COLUMNS = {
    "seconds": "median",
    "fastest": "fastest",
    "slowest": "slowest",
    "cold": "first call",
    "quiet seconds": "quiet",
}
LEFT_OUT = ("routine", "command", "passes", "flops", "bytes read", "seconds to read", "limit")


def _rows_table(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row if name not in LEFT_OUT))
    lines = ["| " + " | ".join(COLUMNS.get(name, name) for name in names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row, name) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name, "")
    if name in COLUMNS and value != "":
        return seconds(value)
    if name == "share of limit" and value != "":
        return _share(row)
    if name in {"error", "allowed error", "bias of the diagonal"} and isinstance(value, float):
        return f"{value:.0e}"
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def line(row: dict[str, Any]) -> str:
    """A row for people, as it is measured."""
    shown = [f"{name} {_cell(row, name)}" for name in row if name not in {*LEFT_OUT, "contender"}]
    return f"{row['routine']}: {row['contender']}: " + ", ".join(shown)


def seconds(value: float) -> str:
    """A time in a fitting unit.

    >>> seconds(0.0123), seconds(2.5), seconds(4e-5), seconds(0.0996), seconds(123.4)
    ('12 ms', '2.5 s', '40 us', '100 ms', '123 s')
    """
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= factor:
            return f"{value / factor:.2g} {unit}" if value < 99.5 * factor else f"{value / factor:.0f} {unit}"
    return f"{value * 1e9:.0f} ns"


def replace_table(text: str, *records: dict[str, Any]) -> str:
    """README with the table of result files between its two marks.

    Raises
    ------
    ValueError
        The marks are not there, once each and in this order.
    """
    before, found, rest = text.partition(START)
    _, ended, after = rest.partition(END)
    if not found or not ended or START in after:
        msg = f"the table must stand between one {START!r} and one {END!r}"
        raise ValueError(msg)
    return f"{before}{START}\n{short_table(*records)}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--readme", type=Path, help="replace the table between its two marks")
    parser.add_argument("--summary", type=Path, help="write the longer table to this file")
    parser.add_argument("--page", type=Path, help="write machine, targets and every row to this file")
    parser.add_argument("--plot", type=Path, help="draw the roofline to this file")
    options = parser.parse_args()
    record = json.loads(options.results.read_text(encoding="utf-8"))
    records = [json.loads(LATER.read_text(encoding="utf-8")), record] if options.results == RESULTS else [record]
    print(*filter(None, [summary(*records), targets_table(record), exceeded(record)]), sep="\n\n")
    if options.readme is not None:
        options.readme.write_text(replace_table(options.readme.read_text(encoding="utf-8"), *records), encoding="utf-8")
    if options.summary is not None:
        options.summary.write_text(summary(*records), encoding="utf-8")
    if options.page is not None:
        options.page.write_text(page(record), encoding="utf-8")
    if options.plot is not None:
        from roofline import plot_roofline

        plot_roofline(record, options.plot)


if __name__ == "__main__":
    main()
