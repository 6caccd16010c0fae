"""The passes that a measurement will make, before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

from nrc_fast.base.cards import card
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.options import format_bytes
from nrc_fast.base.printable import printable
from nrc_fast.base.svg import spark_bars
from nrc_fast.metrics.conventions import Convention
from nrc_fast.passes.chunk_sizes import bytes_per_row, fixed_bytes
from nrc_fast.passes.component_costs import component_costs
from nrc_fast.passes.precisions import working_precision
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.runs import ALWAYS_DOUBLE_VECTORS

__all__ = ["Plan", "plan_reading"]


@dataclass(frozen=True)
class Plan:
    """What a measurement will read, and what it needs.

    Attributes
    ----------
    source : str
    rows : int or None
        None where only reading tells.
    chunk_rows : int
    bytes_per_pass : int or None
    passes : tuple of (str, str)
        What each pass is for, and when it is made.
    memory : int
        Bytes beyond what the process holds already, at most. Pages of the system's file cache are not counted.
    components : str
        Which way `nrc_fast.nrc1` finds the components alone, and what both ways cost by estimate.
    copying : str
        How chunks get from the host to a device; empty where they do not.
    """

    __module__ = "nrc_fast"

    source: str
    rows: int | None
    chunk_rows: int
    bytes_per_pass: int | None
    passes: tuple[tuple[str, str], ...]
    memory: int
    components: str = ""
    copying: str = ""

    def __str__(self) -> str:
        rows = "unknown" if self.rows is None else f"{self.rows:,}"
        size = "unknown" if self.bytes_per_pass is None else format_bytes(self.bytes_per_pass)
        lines = [
            f"{printable(self.source)}: rows {rows}, {size} in a pass, chunks of {self.chunk_rows:,} rows",
            f"memory: up to {format_bytes(self.memory)} beyond what the process holds",
        ]
        lines += [f"pass {number}: {title} ({when})" for number, (title, when) in enumerate(self.passes, start=1)]
        return "\n".join([*lines, *filter(None, [self.components, self.copying])])

    def _repr_html_(self) -> str:
        always = [k for k, (_, when) in enumerate(self.passes) if when.startswith("always")]
        size = "unknown" if self.bytes_per_pass is None else format_bytes(self.bytes_per_pass)
        count = f"{len(always)} to {len(self.passes)}" if len(always) < len(self.passes) else f"{len(always)}"
        first = f"{count} passes of {size}, in up to {format_bytes(self.memory)} of memory."
        label = f"{len(self.passes)} passes, of which {len(always)} are always made"
        rows = "unknown" if self.rows is None else f"{self.rows:,}"
        bars = spark_bars([1.0] * len(self.passes), label, always)
        return card(
            f"plan for {self.source}: rows {rows}, chunks of {self.chunk_rows:,}",
            [first],
            [*self.passes, ("coloured: always made", bars)],
            header=("pass", "when"),
            notes=filter(None, [self.components, self.copying]),
        )

    def to_dict(self) -> dict[str, JSONValue]:
        """The fields by name, as numbers, lists and strings."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "passes": [list(entry) for entry in self.passes]
        }


def plan_reading(
    reading: Reading,
    convention: Convention,
    *,
    k: int,
    vectors: int,
    all_k: bool,
    precision: str,
    has_bias: bool,
) -> Plan:
    """The plan of a measurement with k components.

    Parameters
    ----------
    reading : Reading
    convention : Convention
    k : int
        Number of components.
    vectors : int
        How many leading components NRC1 is told for.
    all_k : bool
        Whether NRC1 is told for every number of components.
    precision : {"high", "highest", "fast"}
    has_bias : bool
        Whether the head has a bias.
    """
    source = reading.source
    used = working_precision(reading, precision)
    is_double = reading.is_double or used == "highest"
    is_few = used != precision and not reading.is_double
    passes = [("statistics", "always, in float64, as the rows are few" if is_few else "always")]
    if reading.rereadable:
        if all_k and convention.unit_rows and convention.centered_rows:
            passes.append(("centered unit rows", "always"))
        if not is_double:
            passes.append(("statistics", "again, if the first rows lie far from the others"))
            beside = "" if precision == "fast" else ", or a bound reaches a tenth of its number"
            passes.append(("statistics", f"in float64, if a component cannot be told from rounding{beside}"))
            passes.append(("refinement", "if the features are collapsed and the residuals leave too few digits"))
        passes.append(("residuals", "always"))
        if not reading.is_double and vectors > ALWAYS_DOUBLE_VECTORS:  # else the residuals give the errors too
            passes.append(("residuals", "in float64, if float32 loses digits"))
            if has_bias and source.n_targets:
                passes.append(("prediction errors", "if the bound of the MSE asks for it"))
    row_bytes = source.row_bytes + source.target_row_bytes
    rows = reading.chunk_rows if source.count is None else min(reading.chunk_rows, source.count)
    return Plan(
        source=source.name,
        rows=source.count,
        chunk_rows=reading.chunk_rows,
        bytes_per_pass=None if source.count is None else source.count * row_bytes,
        passes=tuple(passes),
        memory=fixed_bytes(source) + rows * bytes_per_row(source, "skip" if reading.skips else "raise"),
        components=_ways(reading, k),
        copying=source.copying(rows),
    )


def _ways(reading: Reading, k: int) -> str:
    """In words, which way leads to k components alone; `measure` sums the Gram for its other metrics in any case."""
    if not reading.rereadable:
        return f"{k} components alone (nrc1): from the Gram, as rows are read once"
    costs = component_costs(reading.source, k, reading.memory)
    by_rows = f"block Krylov on the rows, {costs.rows:.1e} multiply-adds for a typical spectrum"
    by_gram = f"Gram and partial decomposition, {costs.gram:.1e}"
    if not costs.gram_fits:
        return f"{k} components alone (nrc1): {by_rows}; the Gram does not fit the memory"
    ways = (by_rows, by_gram) if costs.prefers_rows else (by_gram, by_rows)
    return f"{k} components alone (nrc1): {'; not '.join(ways)} (estimated)"
