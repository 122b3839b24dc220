"""The errors a person is meant to read: one line that says what was wrong, where, with which value, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: What steers a terminal, reorders what is seen or ends a line without showing it; what is no character (half of a pair, the two that XML forbids).
STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


class MubenchError(Exception):
    """Base of every error with a message for the person at the keyboard; the command line prints it without a traceback."""


class UnknownName(MubenchError, ValueError):
    """A thing of any kind (a task, a model, ...) that is not registered."""


class SuiteError(MubenchError):
    """A suite file that cannot be read or does not validate."""


class DataError(MubenchError):
    """Data that is missing, malformed or out of range; the message names the file."""


class ResultsError(MubenchError):
    """A results folder that cannot be read or written, or that another version wrote."""


class NothingRan(MubenchError):
    """A run that ended before the first trial did: its exit code is 2."""


class Diverged(MubenchError):
    """A loss or a parameter became NaN or infinite while unlearning."""


def ends_process(error: BaseException) -> bool:
    """Whether this is Ray's word to a worker process that it is to end (it was sent SIGTERM): no fault of what runs in it, which begins anew elsewhere."""
    return hasattr(error, "ray_terminate_msg")


def one_line(error: BaseException) -> str:
    """An exception as one line, with its type's name."""
    return f"{type(error).__name__}: {message_of(error)}"


def reason_of(error: BaseException) -> str:
    """An exception as one line: a message that is meant for a person as it is, any other with its type's name."""
    return message_of(error) if isinstance(error, MubenchError) else one_line(error)


def message_of(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split()) or "no message"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A sentence with the nearest choices and all of them: ``Did you mean 'salun'? Available: ...``."""
    choices = sorted(choices)
    near = difflib.get_close_matches(word, choices, n=2, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return f"{hint}Available: {', '.join(choices)}."


def harmless(text: str) -> str:
    """A text from elsewhere (an error, a name, a path) with what would steer a terminal written out, ``\\x1b``; line ends and tabs stay."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def flat(text: str) -> str:
    """A harmless text in one line: nothing in it looks like a line of ours."""
    return harmless(text.replace("\n", " "))
