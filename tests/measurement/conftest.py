"""What tests of measurements ask of the reads that are made."""

from __future__ import annotations

from typing import Any

import pytest

from nrc_fast.passes.reading import Reading


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Titles of the passes that are made."""
    made: list[str] = []
    run = Reading.run

    def noted(self: Any, title: str, sums: Any) -> None:
        made.append(title)
        run(self, title, sums)

    monkeypatch.setattr(Reading, "run", noted)
    return made
