"""What a monitor has counted and found so far, as plain values that any checkpoint can hold, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nrc_fast.base.json_values import JSONValue
from nrc_fast.reports.features import Report
from nrc_fast.reports.fields import declared_fields, restored_fields
from nrc_fast.reports.history import History
from nrc_fast.reports.records import plain_value

__all__ = ["MonitorState"]

KIND = "nrc_fast monitor"


@dataclass(frozen=True)
class MonitorState:
    """What `nrc_fast.Monitor.state_dict` holds.

    Attributes
    ----------
    next_step : int
        One more than the last step that the monitor was told of; 0 before the first.
    epochs, evaluations : int
        How many have ended.
    layer : str
        The name of the layer; empty where it has not been found yet.
    layer_notes : tuple of str
    has_diverged : bool
        Whether it was told that something is not finite.
    history : History
    report : Report or None
    """

    next_step: int
    epochs: int
    evaluations: int
    layer: str
    layer_notes: tuple[str, ...]
    has_diverged: bool
    history: History
    report: Report | None

    def to_dict(self) -> dict[str, JSONValue]:
        """Plain numbers, lists, strings and dictionaries."""
        return {"kind": KIND} | {name: plain_value(getattr(self, name)) for name in declared_fields(type(self))}

    @classmethod
    def from_dict(cls, values: object) -> MonitorState:
        """The state from what `to_dict` gave, also by way of JSON.

        Raises
        ------
        ValueError
            It is something else.
        """
        if not isinstance(values, Mapping) or values.get("kind") != KIND:
            msg = "this is no state of a monitor; what Monitor.state_dict() gave is expected"
            raise ValueError(msg)
        readers = {"has_diverged": _flag, "history": History.from_dict, "report": _report}
        try:
            return cls(**restored_fields(declared_fields(cls), values, others=readers))
        except ValueError as error:
            msg = f"this is no state of a monitor: {error}"
            raise ValueError(msg) from error


def _report(values: Mapping[str, Any] | None) -> Report | None:
    return None if values is None else Report.from_dict(values)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        msg = f"has_diverged is {value!r}; True or False is expected"
        raise ValueError(msg)
    return value
