"""The commands ``nrc-fast env`` and ``selftest``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from nrc_fast.cli import environment
from nrc_fast.cli.selftest import run_selftest

__all__ = ["print_environment", "print_selftest"]


def print_environment(options: argparse.Namespace) -> None:
    """Run ``env``: versions, instruction sets and threads."""
    facts = environment.environment()
    print(json.dumps(facts, indent=2) if options.json else "\n".join(f"{name}: {facts[name]}" for name in facts))


def print_selftest(options: argparse.Namespace) -> None:
    """Run ``selftest``: every check, and an error where one has failed."""
    checks = run_selftest()
    failed = [check for check in checks if not check.passed]
    if options.json:
        rows = [asdict(check) | {"passed": check.passed} for check in checks]
        print(json.dumps({"passed": not failed, "checks": rows}, indent=2))
    else:
        print("\n".join(map(str, checks)))
    if failed:
        msg = f"{len(failed)} of {len(checks)} checks failed; please report this with the output of nrc-fast env"
        raise RuntimeError(msg)
