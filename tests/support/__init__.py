"""Helpers of the tests: `from support import arrays`."""
