"""What was measured while a model trained, step by step, with NRC3 replayed for one gamma as the paper does."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.files import write_text
from nrc_fast.base.frames import FrameLibrary, make_frame
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.options import as_integer
from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.metrics.decay_slopes import UNKNOWN_SLOPE, Slope
from nrc_fast.reports.clocks import Clock, clock_of
from nrc_fast.reports.features import Report
from nrc_fast.reports.head_records import record_of_weights
from nrc_fast.reports.history_card import history_card
from nrc_fast.reports.kept_steps import KeptSteps, shape_of_gram
from nrc_fast.reports.plots.histories import plot_history
from nrc_fast.reports.plots.panels import GivenAxes, GivenPath, finished
from nrc_fast.reports.records import NAN, StoredResult
from nrc_fast.reports.replay import beside_heads, last_curve, null_points, replayed
from nrc_fast.reports.steps import SCALARS, Record, csv_of, restored_steps, stored_row, table_of
from nrc_fast.reports.verdicts.histories import history_verdict
from nrc_fast.reports.verdicts.notes import notes_beside

if TYPE_CHECKING:
    import pandas
    import polars
    from matplotlib.figure import Figure

__all__ = ["History"]

KIND = "nrc_fast history"


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
    >>> bool(np.isclose(history.records()[-1].nrc3, history.records(gamma="each")[-1].nrc3, rtol=1e-12))
    True
    """

    __module__ = "nrc_fast"
    _described = "history"
    _indent = 1

    def __init__(self, name: str = "", convention: str = "nrc24") -> None:
        self.name = name
        self.convention = convention
        self._kept = KeptSteps(0, np.zeros((0, 0)))
        self._replayed: tuple[KeptSteps, GammaChoice, tuple[Record, ...]] | None = None

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

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the records say, in two to six sentences by fixed rules on them and their bounds.

        The level of the last record, the direction of the curve, what NRC3 is worth, whether weight decay holds the
        head, and whether the training has diverged. The rules are those of
        `nrc_fast.reports.verdicts.histories.history_verdict`.
        """
        seen = copy(self)  # another thread may add to this one
        beside = beside_heads(seen._records, seen.target_covariance)
        return history_verdict(seen.records(), n=seen.n, convention=seen.convention, **beside)

    @property
    def clock(self) -> Clock | None:
        """How fast NRC1 of linear features falls late in the training, beside what weight decay predicts.

        None where no prediction is known: a Monitor makes it with ``optimizer=``, see `nrc_fast.Clock`.
        """
        return clock_of(self._records)

    def __str__(self) -> str:
        seen = copy(self)
        records, verdict = seen.records(), seen.verdict
        table = ["", *table_of(records, seen.n)] if records else []
        notes = [f"note: {note}" for note in notes_beside(verdict, records[-1].notes)] if records else []
        notes = [str(seen.clock), *notes] if seen.clock is not None else notes
        return "\n".join([repr(seen), "", *verdict, *table, *notes])

    def add(
        self, step: int, report: Report, W: Array | None, covariance: Array, *, clock: Slope = UNKNOWN_SLOPE
    ) -> Record:
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
        clock : Slope, optional
            What weight decay predicts of the slope of log NRC1, see `nrc_fast.metrics.decay_slopes.decay_slope`.

        Raises
        ------
        TypeError, ValueError
            The step is no whole number, or the report has another n than those before.
        """
        gram = np.full((report.n, report.n), NAN) if W is None else shape_of_gram(W)
        return self._append(Record.of(as_integer(step, "step"), report, clock), report.n, gram, covariance)

    def add_weights(self, step: int, W: Array, covariance: Array) -> Record:
        """Add the weights of a step whose features are not known; all but NRC3, its gamma and quantile is NaN.

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
        record, gram = record_of_weights(step, W, covariance), shape_of_gram(W)
        return self._append(record, len(gram), gram, covariance)

    def _append(self, record: Record, n: int, gram: FloatArray, covariance: Array) -> Record:
        if self._records and n != self.n:
            msg = f"the report has n = {n} and this history has n = {self.n}; start another History"
            raise ValueError(msg)
        self._kept = self._kept.with_record(record, gram, covariance)
        return record

    def forget(self, first: int, last: int | None = None) -> None:
        """Take the records of steps from `first` on, up to `last` where it is given, out of the history.

        Examples
        --------
        >>> import numpy as np
        >>> history = History()
        >>> for step in (0, 10, 20):
        ...     record = history.add_weights(step, np.eye(2), np.eye(2))
        >>> history.forget(10, 10)
        >>> [record.step for record in history.records()]
        [0, 20]
        """
        self._kept = self._kept.without(first, last)

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
        kept, known = self._kept, self._replayed
        if gamma == "each":  # as they are kept; what follows a training asks for them at every step
            return kept.records
        if known is None or known[0] is not kept or known[1] != gamma:
            known = kept, gamma, replayed(kept.records, kept.head_grams, kept.target_covariance, gamma)
            self._replayed = known
        return known[2]

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
        return last_curve(grams, sigma, points)

    def nrc3_null(self) -> tuple[float, float, float]:
        """NRC3 that 5, 50 and 95 of 100 random heads are below, for these targets and each at its own best gamma.

        W of independent Gaussian numbers, as wide as that of the records: see `nrc_fast.nrc3_context`. NaN where the
        targets or the width are not known; the first and the last also for fewer than 60 heads, n above about 180.
        """
        return null_points(self._kept.records, self._kept.target_covariance)

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
            "records": [stored_row(record) for record in records],
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
        write_text(path, csv_of(self.records(gamma)))

    @overload
    def to_dataframe(self, gamma: GammaChoice = ..., *, library: Literal["pandas"]) -> pandas.DataFrame: ...
    @overload
    def to_dataframe(self, gamma: GammaChoice = ..., *, library: Literal["polars"]) -> polars.DataFrame: ...
    @overload
    def to_dataframe(
        self, gamma: GammaChoice = "last", *, library: FrameLibrary | None = None
    ) -> pandas.DataFrame | polars.DataFrame: ...
    def to_dataframe(
        self, gamma: GammaChoice = "last", *, library: FrameLibrary | None = None
    ) -> pandas.DataFrame | polars.DataFrame:
        """A data frame with a row for each record: the step and all scalars.

        Parameters
        ----------
        gamma : {"last", "each"} or float
            For which gamma NRC3 is told, see `records`.
        library : {"pandas", "polars"}, optional
            By default the one that is imported already, else the one that is installed; pandas where both are.

        Raises
        ------
        ImportError
            The library is not installed.
        ValueError
            It is another one, or `gamma` is another text or a negative number.
        """
        records = self.records(gamma)
        columns = {name: [getattr(record, name) for record in records] for name in ("step", *SCALARS)}
        return make_frame(columns, library)

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
        history._kept = KeptSteps(kept["n"], kept["target_covariance"], tuple(records), tuple(kept["head_grams"]))
        return history

    def _repr_html_(self) -> str:
        return history_card(copy(self), "last", self.name or "history of a training")

    def plot(
        self, gamma: GammaChoice = "last", *, path: GivenPath | None = None, ax: GivenAxes | None = None
    ) -> Figure:
        """Draw the paper's panels, see `nrc_fast.reports.plots.histories.plot_history`; returns the figure.

        Parameters
        ----------
        gamma : {"last", "each"} or float
            For which gamma NRC3 is shown, see `records`.
        path : path, optional
            A file to write the figure to as well, in the format that its name ends with.
        ax : six matplotlib axes, optional
            Where to draw; a new figure if not given.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        OSError
            The file cannot be written.
        ValueError
            Nothing was measured yet, `ax` holds another number of axes, or the name of the file ends with no format
            that matplotlib knows.
        """
        self._require_records()
        return finished(plot_history(copy(self), gamma, ax), path)
