"""The errors a person is meant to read: one line that says what was wrong, where, with which value, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MubenchError(Exception):
    """Base of every error with a message for the person at the keyboard; the command line prints it without a traceback."""


class UnknownName(MubenchError, ValueError):
    """A task, model, method, metric or sampler that is not registered."""


class SuiteError(MubenchError):
    """A suite file that cannot be read or does not validate."""


class DataError(MubenchError):
    """Data that is missing, malformed or out of range; the message names the file."""


class ResultsError(MubenchError):
    """A results folder that cannot be read or written, or that another version wrote."""


class Diverged(MubenchError):
    """A loss or a parameter became NaN or infinite while unlearning."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A sentence with the nearest choices and all of them: ``Did you mean 'salun'? Available: ...``."""
    choices = sorted(choices)
    near = difflib.get_close_matches(word, choices, n=2, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return f"{hint}Available: {', '.join(choices)}."
