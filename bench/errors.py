"""Errors that the command line shows as one line."""

from __future__ import annotations


class UsageError(Exception):
    """A wrong call: the message names the thing, the value and what would be right. Exit status 2."""


class RunError(Exception):
    """A run that failed: the message names what failed and why. Exit status 1."""


def in_words(error: BaseException) -> str:
    """Another one's error for a message of ours: its kind, and the first line of what it says."""
    first, *_ = str(error).strip().splitlines() or [""]
    kind = type(error).__name__
    return str(error) if isinstance(error, (UsageError, RunError)) else f"{kind}: {first}" if first else kind
