"""What was measured while a model trained, step by step, with NRC3 replayed for one gamma as the paper does."""

from __future__ import annotations

import csv
import io
import json
import math
from bisect import bisect_right
from copy import copy
from dataclasses import fields, replace
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat, SupportsIndex

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.files import write_text
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.linalg import scale_to_unit
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.metrics.alignment import GammaChoice, HeadAlignment, head_gram
from nrc_fast.reports.features import Report
from nrc_fast.reports.plots.histories import plot_history
from nrc_fast.reports.records import NAN, StoredResult
from nrc_fast.reports.steps import Record, restored_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History"]

KIND = "nrc_fast history"


class _Kept(NamedTuple):
    """What a history holds, in one object: whoever reads while another thread adds sees all of one state."""

    n: int
    target_covariance: FloatArray
    records: tuple[Record, ...] = ()
    head_grams: tuple[FloatArray, ...] = ()


class History(StoredResult):
    """Records of a training, and the shape of W W^T at each of them.

    Parameters
    ----------
    name : str
        What plots call it.
    convention : str
        Definition of NRC1 and NRC2 in use, see `nrc_fast.CONVENTIONS`.

    Examples
    --------
    >>> import numpy as np
    >>> from nrc_fast import measure
    >>> rng = np.random.default_rng(0)
    >>> H, Y = rng.standard_normal((200, 6)), rng.standard_normal((200, 2))
    >>> history = History("run")
    >>> for step, W in enumerate(rng.standard_normal((3, 2, 6))):
    ...     record = history.add(step, measure(H, Y, W), W, np.cov(Y, rowvar=False, bias=True))
    >>> [record.step for record in history.records()]
    [0, 1, 2]
    >>> history.records()[-1].nrc3 == history.records(gamma="each")[-1].nrc3
    True
    """

    __module__ = "nrc_fast"
    _described = "history"
    _indent = 1

    def __init__(self, name: str = "", convention: str = "nrc24") -> None:
        self.name = name
        self.convention = convention
        self._kept = _Kept(0, np.zeros((0, 0)))

    @property
    def n(self) -> int:
        """Number of targets; 0 without records."""
        return self._kept.n

    @property
    def target_covariance(self) -> FloatArray:
        """The covariance of the targets that NRC3 is replayed with, (n, n)."""
        return self._kept.target_covariance

    @property
    def _records(self) -> tuple[Record, ...]:
        return self._kept.records

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        if not self._records:
            return "<History without records>"
        steps = f"steps {self._records[0].step:,} to {self._records[-1].step:,}"
        return f"<History {self.name + ', ' if self.name else ''}{len(self)} records, {steps}, n = {self.n}>"

    def add(self, step: int, report: Report, W: Array | None, covariance: Array) -> Record:
        """Add what was measured at a step; returns its record, with NRC3 for its own gamma.

        Records are in the order of their steps, whenever they come.

        Parameters
        ----------
        step : int
        report : Report
        W : (n, d) array or tensor, or None
            The weights of that step; only the shape of W W^T is kept. None where they are not finite: NRC3 of that
            step is NaN for every gamma.
        covariance : (n, n) array
            Covariance of the targets, for the replay of NRC3: the last that is finite counts.

        Raises
        ------
        TypeError, ValueError
            The step is no whole number, or the report has another n than those before.
        """
        gram = np.full((report.n, report.n), NAN) if W is None else _gram_of(W)
        return self._append(Record.of(_whole(step), report), report.n, gram, covariance)

    def add_weights(self, step: int, W: Array, covariance: Array) -> Record:
        """Add the weights of a step whose features are not known; all but NRC3 and gamma is NaN.

        Parameters
        ----------
        step : int
        W : (n, d) array or tensor
            The weights of that step; only the shape of W W^T is kept.
        covariance : (n, n) array
            Covariance of the targets, for the replay of NRC3: that which was given last counts.

        Raises
        ------
        TypeError, ValueError
            The step is no whole number, or W is no float matrix or has another number of rows than those before.
        """
        gram = _gram_of(W)
        alignment = HeadAlignment(gram, np.array(covariance, dtype=np.float64))
        gamma = alignment.best_gamma()
        unknown = {part.name: NAN for part in fields(Record) if part.name not in ("step", "explained_variance_ratio")}
        found: dict[str, Any] = unknown | {"gamma": gamma, "nrc3": alignment.nrc3(gamma)}
        return self._append(Record(step=_whole(step), **found), len(gram), gram, covariance)

    def _append(self, record: Record, n: int, gram: FloatArray, covariance: Array) -> Record:
        if self._records and n != self.n:
            msg = f"the report has n = {n} and this history has n = {self.n}; start another History"
            raise ValueError(msg)
        _, sigma, records, grams = self._kept
        given = np.array(covariance, dtype=np.float64)
        place = bisect_right([known.step for known in records], record.step)
        self._kept = _Kept(
            n,
            given if np.isfinite(given).all() or not records else sigma,
            (*records[:place], record, *records[place:]),
            (*grams[:place], gram, *grams[place:]),
        )
        return record

    def records(self, gamma: GammaChoice = "last") -> tuple[Record, ...]:
        """The records, with NRC3 for one gamma.

        Parameters
        ----------
        gamma : {"last", "each"} or float
            "last": the gamma that is best for the last W that is finite, replayed over the history, which is the
            paper's protocol (the early part of the curve uses a gamma from the future). "each": at every step the best
            of that step. A number: that one, such as lambda_W lambda_H where the features are penalised.

        Raises
        ------
        ValueError
            `gamma` is another text or a negative number.

        References
        ----------
        arXiv 2409.04180 (NeurIPS 2024), appendix A.3; there gamma is searched on a grid, here it is exact.
        """
        _, sigma, records, grams = self._kept
        if gamma == "each" or not records:
            return records
        if gamma == "last":
            value = next((record.gamma for record in reversed(records) if not math.isnan(record.gamma)), NAN)
        elif not isinstance(gamma, SupportsFloat) or not gamma >= 0.0:
            msg = f"gamma is {gamma!r}; 'last', 'each' or a number from 0 on is expected"
            raise ValueError(msg)
        else:
            value = float(gamma)
        return tuple(
            replace(record, nrc3=NAN if _is_unknown(gram, sigma) else HeadAlignment(gram, sigma).nrc3(value))
            for record, gram in zip(records, grams, strict=True)
        )

    def nrc3_curve(self, points: int = 200) -> tuple[FloatArray, FloatArray]:
        """NRC3 of the last W that is finite against gamma.

        Returns
        -------
        gammas, values : (points,) float64 arrays
            Over [0, lambda_min]; the values are NaN for n = 1, and both where no W is finite.

        Raises
        ------
        ValueError
            Nothing was measured yet.
        """
        self._require_records()
        _, sigma, _, grams = self._kept
        gram = next((gram for gram in reversed(grams) if not _is_unknown(gram, sigma)), None)
        if gram is None:
            return np.full(points, NAN), np.full(points, NAN)
        alignment = HeadAlignment(gram, sigma)
        gammas = np.linspace(0.0, float(alignment.eigenvalues[-1]), points)
        return gammas, alignment.nrc3_curve(gammas)

    def _require_records(self) -> None:
        if not self._records:
            msg = "nothing was measured yet; the history is empty"
            raise ValueError(msg)

    # ---- files ----

    def to_dict(self) -> dict[str, JSONValue]:
        """Plain numbers, lists and strings: everything that `load` needs.

        ``records`` hold the NRC3 of each step's own gamma, ``replayed_nrc3`` that of the last.
        """
        seen = copy(self)  # another thread may add to this one
        n, sigma, records, grams = seen._kept
        return {
            "kind": KIND,
            "name": self.name,
            "convention": self.convention,
            "n": n,
            "records": [record.scalars() | {"step": record.step} for record in records],
            "explained_variance_ratio": [list(record.explained_variance_ratio) for record in records],
            "replayed_nrc3": [record.nrc3 for record in seen.records()],
            "target_covariance": sigma.tolist(),
            "head_grams": [gram.tolist() for gram in grams],
        }

    def to_csv(self, path: str | Path, gamma: GammaChoice = "last") -> None:
        """Write a CSV file with a line for each record, all or nothing: the step and all scalars.

        Parameters
        ----------
        path : path
        gamma : {"last", "each"} or float
            For which gamma NRC3 is written, see `records`.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            `gamma` is another text or a negative number, or there is a file that is no text.
        """
        rows = [{"step": record.step} | record.scalars() for record in self.records(gamma)]
        lines = io.StringIO()
        writer = csv.DictWriter(lines, list(rows[0]) if rows else [])
        if rows:
            writer.writeheader()
        writer.writerows(rows)
        write_text(path, lines.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read a history that `to_json` wrote.

        Raises
        ------
        OSError
            The file is missing.
        ValueError
            It holds something else.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            msg = f"{path} is no JSON file: {error}"
            raise ValueError(msg) from error
        return cls.from_dict(values, str(path))

    @classmethod
    def from_dict(cls, values: object, name: str = "the mapping") -> History:
        """A history from what `to_dict` gives.

        Raises
        ------
        ValueError
            It holds something else.
        """
        if not isinstance(values, dict) or values.get("kind") != KIND:
            msg = f"{name} holds no history; a file that History.to_json has written is expected"
            raise ValueError(msg)
        try:
            return cls._restored(values)
        except ValueError as error:
            msg = f"{name} holds no history: {error}"
            raise ValueError(msg) from error

    @classmethod
    def _restored(cls, values: dict[str, Any]) -> History:
        kept, records = restored_steps(values)
        history = cls(kept["name"], kept["convention"])
        history._kept = _Kept(kept["n"], kept["target_covariance"], tuple(records), tuple(kept["head_grams"]))
        return history

    def plot(self, gamma: GammaChoice = "last") -> Figure:
        """Draw the paper's panels; returns the figure. See `nrc_fast.reports.plots.histories.plot_history`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            Nothing was measured yet.
        """
        self._require_records()
        return plot_history(copy(self), gamma)


def _is_unknown(gram: FloatArray, sigma: FloatArray) -> bool:
    return not (np.isfinite(gram).all() and np.isfinite(sigma).all())


def _gram_of(W: Array) -> FloatArray:
    return head_gram(scale_to_unit(as_matrix(W, "W")[0])[0])


def _whole(step: SupportsIndex) -> int:
    """A step of any library's kind of integer."""
    try:
        return index(step)
    except TypeError as error:
        msg = f"step is {step!r}; a whole number is expected"
        raise TypeError(msg) from error
