"""Errors that the command line shows as one line."""

from __future__ import annotations


class UsageError(Exception):
    """A wrong call: the message names the thing, the value and what would be right. Exit status 2."""


class RunError(Exception):
    """A run that failed: the message names what failed and why. Exit status 1."""
