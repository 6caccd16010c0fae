"""The style of pages: light and dark, wide and narrow, on paper; and what is said of a point that is pointed at."""

from __future__ import annotations

__all__ = ["MOST_TOGGLES", "STYLE"]

# Runs of a figure that can be taken out of it and brought forward.
MOST_TOGGLES = 24

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d1d1f; --soft: #5c5c66; --line: #d9d9df; --shade: #f5f5f7;
  --note: #fff6dd; --mark: #b8730a; --link: #1b62a5; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #1b1b1d; --ink: #e4e4e7; --soft: #a5a5ad; --line: #424248; --shade: #26262a; --note: #362d15;
    --link: #7db8ee; }
}
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem;
  color: var(--ink); background: var(--paper); overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.2; }
h1 { font-size: 1.8rem; margin: 0 0 .3rem; }
h2 { font-size: 1.35rem; margin: 0 0 .8rem; padding-top: 1.6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.2rem 0 .2rem; }
a { color: var(--link); }
section { margin-top: 2rem; }
.soft { color: var(--soft); }
.verdict { max-width: 46rem; margin: .2rem 0 .9rem; }
.verdict span { display: block; margin-top: .2rem; }
nav ol { margin: .3rem 0; padding-left: 1.4rem; columns: 16rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
caption span { display: inline-block; position: sticky; left: 0; max-width: min(44rem, calc(100vw - 2.5rem)); }
th, td { text-align: left; font-weight: normal; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { color: var(--soft); vertical-align: bottom; }
th.number, td.number { text-align: right; padding: .25rem 0 .25rem .9rem; }
td.number { white-space: nowrap; }
.number + :not(.number) { padding-left: 1.2rem; }
tbody th { min-width: 10rem; position: sticky; left: 0; background: var(--paper); }
th.group { color: var(--soft); font-weight: 600; padding-top: .8rem; }
.note { max-width: 46rem; background: var(--note); border-left: 4px solid var(--mark); padding: .5rem .8rem;
  margin: .5rem 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1rem 1.2rem; }
.chart svg { display: block; }
.title { font-size: .92rem; min-height: 1.5em; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .6rem 0 1rem; padding: 0; list-style: none; }
.key label { display: inline-flex; align-items: center; gap: .4rem; cursor: pointer; }
.tip { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.dot:hover circle:first-of-type { r: 5px; }
.dot:hover .tip { visibility: visible; }
dt { font-weight: 600; margin-top: 1rem; }
dd { margin: .2rem 0 0; max-width: 46rem; }
math { font-size: 1.1em; }
summary { cursor: pointer; color: var(--link); }
@media (max-width: 34rem) {
  body { padding: 1rem .8rem 3rem; } tbody th { min-width: 6rem; } h1 { font-size: 1.5rem; }
  .words thead { display: none; } .words tr { display: grid; grid-template-columns: 1fr auto; padding: .3rem 0; }
  .words tr { border-bottom: 1px solid var(--line); } .words th, .words td { border: 0; padding-bottom: 0; }
  .words td:last-child { grid-column: 1 / -1; padding-left: 0; color: var(--soft); }
}
@media print { body { max-width: none; } section { break-inside: avoid; } }
"""

_TOGGLE = (
    ".runs:has(.toggle-{k}:not(:checked)) .run-{k} {{ display: none; }} "
    ".runs:has(.key-{k}:hover) .chart g[class^=run-]:not(.run-{k}) {{ opacity: .15; }}\n"
)

STYLE = _STYLE + "".join(_TOGGLE.format(k=k) for k in range(MOST_TOGGLES))
