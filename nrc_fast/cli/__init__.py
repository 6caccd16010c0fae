"""The command line, ``nrc-fast``."""

from nrc_fast.cli.command_line import main

__all__ = ["main"]
