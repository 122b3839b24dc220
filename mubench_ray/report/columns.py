"""Which metrics the report shows first, under which heading; direction and meaning come from the folder's own
``metrics.json`` where it has one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal


@dataclass(frozen=True)
class Column:
    """A metric as the report shows it; ``share`` formats 0.25 as 25 %, ``folded`` hides it until asked for, ``low`` and
    ``high`` bound what it can be."""

    name: str
    title: str
    direction: Literal["higher", "lower", "neither"] = "neither"
    summary: str = ""
    cites: str = ""
    share: bool = False
    folded: bool = False
    low: float = -inf
    high: float = inf


#: Shown on the page in this order; every other metric column of ``trials`` follows in the CSV and can be switched on.
SHOWN = (
    Column("test_accuracy", "D_Test", "higher", "Share of D_Test that is right."),
    Column("forget_accuracy", "D_F", "neither", "Share of D_F that is right; the retrain's is the goal, not 0."),
    Column("retain_accuracy", "D_R", "higher", "Share of D_R that is right."),
    Column("u_mia", "U-MIA", "neither", "Accuracy of the membership attack on D_F against D_Test; 0.5 is chance."),
    Column("indisc", "Indisc", "higher", "1 - |2 MIA - 1|."),
    Column(
        "retention_deviation", "RetDev", "lower", "|RR - 1| + |FR - 1| + |TR - 1| against the retrain of the same seed."
    ),
    Column("flos_share", "FLOs share", "lower", "FLOs spent as a share of the retrain's.", share=True),
    Column(
        "retrain_time_efficiency", "RTE", "higher", "Seconds of the retrain over seconds of unlearning.", folded=True
    ),
)

#: Accuracies whose difference to the retrain of the same seed and forget set is reported, with the retention ratio it
#: can be recovered from.
DIFFERENCES = {
    "test_accuracy": "test_retention",
    "forget_accuracy": "forget_retention",
    "retain_accuracy": "retain_retention",
}

#: Metrics that are relative to a trial's own retrain already, so that two retrains cannot differ in them.
RELATIVE = (*DIFFERENCES.values(), "flos_share", "retrain_time_efficiency")

CONTROLS = ("original", "retrain")


def difference_name(metric: str) -> str:
    """Name of the column ``metric`` minus the retrain's."""
    return f"{metric}_minus_retrain"


def bound(value: Any, absent: float) -> float:
    """A declared end of a range; ``absent`` where there is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else absent


def describe_columns(present: list[str], declared: dict[str, dict[str, Any]]) -> list[Column]:
    """A Column for every metric of ``present``: the shown ones first, then the rest by name.

    ``declared`` is ``metrics.json`` (name -> direction, low, high, cites, summary); entries that are missing or
    malformed are passed over.
    """
    known = {column.name: column for column in SHOWN}
    order = [name for name in known if name in present] + sorted(name for name in present if name not in known)
    described = []
    for name in order:
        column = known.get(name, Column(name, name.replace("_", " ")))
        entry = declared.get(name)
        if isinstance(entry, dict):
            direction = entry.get("direction")
            column = replace(
                column,
                direction=direction if direction in ("higher", "lower", "neither") else column.direction,
                summary=str(entry.get("summary") or column.summary),
                cites=str(entry.get("cites") or column.cites),
                low=bound(entry.get("low"), -inf),
                high=bound(entry.get("high"), inf),
            )
        described.append(column)
    return described
