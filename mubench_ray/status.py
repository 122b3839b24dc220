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

    @property
    def usable(self) -> bool:
        """Whether there is a network, and its numbers count."""
        return self in (Status.OK, Status.TRUNCATED)

    @property
    def retried(self) -> bool:
        """Whether ``--retry-failed`` runs it again."""
        return self in (Status.OUT_OF_MEMORY, Status.FAILED)


#: As texts, as rows hold them.
STATUSES = tuple(status.value for status in Status)
USABLE = tuple(status.value for status in Status if status.usable)
RETRIED = tuple(status.value for status in Status if status.retried)
#: Of which another try would come to the same end.
FINAL = tuple(status.value for status in Status if not status.retried)
