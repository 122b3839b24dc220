"""How a trial ends: the statuses of rows, and what each means for what is done with a row."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The status of a row, in the order in which they are shown."""

    OK = "ok"
    #: The budget ended it; what it has is what the budget gives.
    TRUNCATED = "truncated"
    #: A loss or a parameter became NaN or infinite, as it would again.
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"


#: As texts, as rows hold them.
STATUSES = tuple(status.value for status in Status)
#: There is a network, and its numbers count.
USABLE = (Status.OK.value, Status.TRUNCATED.value)
#: What ``--retry-failed`` runs again.
RETRIED = (Status.OUT_OF_MEMORY.value, Status.FAILED.value)
#: Of which another try would come to the same end.
FINAL = tuple(status for status in STATUSES if status not in RETRIED)
