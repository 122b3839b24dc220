"""How a trial ends: the statuses of rows, and what each means for what is done with a row."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


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
#: The reason of a truncated row without numbers: what its budget left is the network that it started from.
NO_STEP = "the budget allowed no step"
#: How a row's mark begins that says why its seconds are held against no retrain's.
UNCOMPARED = "seconds are neither compared with the retrain's nor capped"
#: What ``--retry-failed`` runs again.
RETRIED = (Status.OUT_OF_MEMORY.value, Status.FAILED.value)
#: Of which another try would come to the same end.
FINAL = tuple(status for status in STATUSES if status not in RETRIED)


def is_usable(row: Mapping[str, Any]) -> bool:
    """Whether a row is of a network of its own, whose numbers count. One that was truncated before its first step is not (an earlier release scored the
    original there and gave no reason: nothing was spent)."""
    status = row.get("status")
    if status == Status.TRUNCATED:
        return not row.get("error") and row.get("flos") != 0
    return status in USABLE
