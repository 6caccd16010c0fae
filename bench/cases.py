"""What a routine measures once: shape, dtype, layout, number of vectors and kind of features; and what repeats it."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

__all__ = ["DTYPES", "KINDS", "LAYOUTS", "Case", "parse_shape", "select"]

DTYPES = ("float64", "float32", "float16", "bfloat16")
LAYOUTS = ("contiguous", "strided")
KINDS = ("layer", "collapsed", "power")


@dataclass(frozen=True)
class Case:
    """Features of `rows` x `d`, and k vectors or targets where the routine has any.

    Attributes
    ----------
    rows, d : int
    dtype : str
    layout : str
        "strided": a slice of a wider array, whose rows begin on no boundary.
    k : int or None
        Components, vectors or targets; None where the routine has none.
    kind : str
        "layer": of a leaky ReLU layer. "collapsed": three strong directions, little else. "power": a covariance whose
        eigenvalues fall as j^-1/2.
    """

    rows: int
    d: int
    dtype: str = "float32"
    layout: str = "contiguous"
    k: int | None = None
    kind: str = "layer"

    def facts(self) -> dict[str, Any]:
        """The columns of a result that say what was measured."""
        facts = {"rows": self.rows, "d": self.d, "dtype": self.dtype, "layout": self.layout}
        if self.k is not None:
            facts["k"] = self.k
        return facts if self.kind == KINDS[0] else facts | {"kind": self.kind}

    def options(self) -> str:
        """The options of `bench/run.py` that choose this case.

        >>> Case(1000, 64, k=3).options()
        '--shape 1000x64 --dtype float32 --layout contiguous --components 3'
        """
        text = f"--shape {self.rows}x{self.d} --dtype {self.dtype} --layout {self.layout}"
        if self.k is not None:
            text += f" --components {self.k}"
        return text if self.kind == KINDS[0] else f"{text} --kind {self.kind}"


def parse_shape(text: str) -> tuple[int, int]:
    """Rows and features of "400000x256".

    Raises
    ------
    ArgumentTypeError
        The text is not of that form.
    """
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        msg = f"the shape {text!r} is not ROWSxFEATURES, such as 400000x256"
        raise ArgumentTypeError(msg)
    return int(parts[0]), int(parts[1])


def select(
    suite: Sequence[Case],
    *,
    shapes: Sequence[tuple[int, int]] | None = None,
    dtypes: Sequence[str] | None = None,
    layouts: Sequence[str] | None = None,
    components: Sequence[int | None] | None = None,
    kinds: Sequence[str] | None = None,
) -> list[Case]:
    """The cases of a suite that match, or, where shapes are given, every combination of what is given.

    Parameters
    ----------
    suite : sequence of Case
        What is not given beside shapes is taken from its first case.
    shapes, dtypes, layouts, components, kinds : sequences, optional

    Examples
    --------
    >>> suite = [Case(1000, 64), Case(1000, 64, "float64")]
    >>> select(suite, dtypes=["float64"]) == suite[1:]
    True
    >>> select(suite, shapes=[(10, 2)], dtypes=["float16"])
    [Case(rows=10, d=2, dtype='float16', layout='contiguous', k=None, kind='layer')]
    """
    first = suite[0]
    if first.k is None:
        components = None
    if shapes is None:
        return [
            case
            for case in suite
            if (dtypes is None or case.dtype in dtypes)
            and (layouts is None or case.layout in layouts)
            and (components is None or case.k in components)
            and (kinds is None or case.kind in kinds)
        ]
    given = (dtypes or [first.dtype], layouts or [first.layout], components or [first.k], kinds or [first.kind])
    return [
        replace(first, rows=rows, d=d, dtype=dtype, layout=layout, k=k, kind=kind)
        for (rows, d), dtype, layout, k, kind in product(shapes, *given)
        if k is None or k <= d
    ]
