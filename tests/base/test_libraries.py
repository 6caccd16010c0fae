"""Optional libraries: what is there is handed out, what is missing names the extra that installs it."""

from __future__ import annotations

import math
import sys

import pytest

from nrc_fast.base.libraries import needs_library, require_library


def test_a_library_that_is_there_is_handed_out() -> None:
    assert require_library("math", "torch") is math
    assert require_library("xml.dom", "torch") is sys.modules["xml.dom"]  # not its top


@pytest.mark.parametrize(("reason", "start"), [(None, "this needs h5py"), ("x.h5 needs h5py", "x.h5 needs h5py")])
def test_a_missing_library_names_its_extra(reason: str | None, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError) as raised:
        require_library("h5py", "hdf5", reason)
    assert str(raised.value) == f"{start}: pip install 'nrc-fast[hdf5]'"
    assert isinstance(raised.value.__cause__, ImportError)


def test_other_errors_of_a_library_are_its_own() -> None:
    with pytest.raises(ZeroDivisionError), needs_library("hdf5", "this needs h5py"):
        raise ZeroDivisionError
