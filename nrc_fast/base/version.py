"""The version of the package, which its metadata and the compiled modules take from here."""

from __future__ import annotations

__version__ = "0.1.0"
