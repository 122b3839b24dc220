"""The one table of what a report shows of metrics: under which heading, where, and how it is written.

What a metric means (direction, range, citation) is its own and comes from the folder's ``metrics.json``, which also
describes the metrics of plugins: a report loads nobody's code. A metric that is not in the table can be switched on on
the page and stands in the CSV; one that is shown somewhere else is given a line here and nothing anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal, TypeVar, get_args

from mubench_ray.metrics.base import Direction, Format

T = TypeVar("T")
Place = Literal[
    "board",  # the leaderboard of the page as it opens, and a paper's table a (task, model, ratio)
    "screen",  # the table at the end of a run
    "live",  # the last rows of a run
    "curves",  # charts and tables against the deleted share, and along the budget
    "glance",  # one row a contender
    "frontier",  # against cost
    "cost",  # the cost of that
    "charged",  # the same with tuning charged
    "capacity",  # of the metrics over many ratios
    "noise",  # retrain against retrain
    "ranking",  # Deep Unlearn's Table 1
    "letters",  # what contenders are told apart by
    "efficiency",  # Deep Unlearn's Table 2
    "attacks",  # MU-Bench's Tables 4 to 6
]
#: What is drawn, with its interval; and what is averaged over tasks, models and ratios.
DRAWN: tuple[Place, ...] = ("curves", "glance", "frontier")
AVERAGED: tuple[Place, ...] = (*DRAWN, "cost", "charged", "efficiency", "attacks")


@dataclass(frozen=True)
class Column:
    """A metric as the report shows it, between ``low`` and ``high``.

    ``retention`` names the ratio to the trial's own retrain that an accuracy can be recovered from: its difference to
    that retrain is reported, in the column ``difference``; such a column is ``of`` the accuracy. ``relative`` metrics
    are relative to the own retrain already, so that two retrains cannot differ in them. ``timed`` ones follow the clock;
    ``root`` ones are drawn on a square-root axis from 0. A ``rare`` one is no column where no trial has it.
    """

    name: str
    title: str
    shown: tuple[Place, ...] = ()
    format: Format | Literal["signed"] = "number"
    retention: str = ""
    of: str = ""
    relative: bool = False
    timed: bool = False
    root: bool = False
    rare: bool = False
    direction: Direction = "neither"
    summary: str = ""
    cites: str = ""
    low: float = -inf
    high: float = inf
    #: The set of which it is the share of examples that are right; declared by the metric.
    counts: str = ""

    @property
    def difference(self) -> str:
        """Name of the column that holds it minus the retrain's."""
        return f"{self.name}_minus_retrain"


COLUMNS = (
    Column(
        "test_accuracy",
        "D_Test",
        ("board", "screen", "live", "curves", "glance", "noise"),
        retention="test_retention",
    ),
    Column("forgotten_test_accuracy", "D_Test, forgotten classes", ("board", "screen"), rare=True),
    Column(
        "forget_accuracy",
        "D_F",
        ("board", "screen", "live", "curves", "glance", "noise", "attacks"),
        retention="forget_retention",
    ),
    Column(
        "forget_accuracy_minus_retrain",
        "D_F − retrain",
        ("board",),
        "signed",
        of="forget_accuracy",
        summary="Mean difference to the retrain of the same seed and forget set; 0 is the goal.",
    ),
    Column("retain_accuracy", "D_R", ("board", "screen", "curves", "glance", "noise"), retention="retain_retention"),
    Column("u_mia", "U-MIA", ("board", "screen", "noise", "attacks")),
    Column("indisc", "Indisc", ("board", "glance", "frontier", "noise", "ranking")),
    Column("retention_deviation", "RetDev", ("board", "screen", "frontier", "noise", "ranking", "letters"), root=True),
    Column("certified_epsilon", "certified epsilon", ("board", "screen"), rare=True),
    Column("certified_delta", "certified delta", ("board",), rare=True),
    Column("flos_share", "FLOs share", ("board", "screen", "cost"), "share", relative=True),
    Column(
        "flos_share_with_tuning",
        "FLOs share, tuning charged",
        ("board", "screen", "charged"),
        "share",
        relative=True,
        direction="lower",
        summary="FLOs of unlearning, of all search trials of the method and of the selection seeds' originals and retrains, over the retrain's.",
        low=0.0,
    ),
    Column("retrain_time_efficiency", "RTE", ("efficiency",), "times", relative=True),
    Column(
        "flos_efficiency",
        "RTE by FLOs",
        ("efficiency",),
        "times",
        relative=True,
        direction="higher",
        summary="FLOs of retraining over FLOs of unlearning: the same on any device, in any precision.",
        low=0.0,
    ),
    Column(
        "retrain_time_efficiency_with_tuning",
        "RTE, tuning charged",
        ("efficiency",),
        "times",
        relative=True,
        timed=True,
        direction="higher",
        summary="Seconds of retraining over those of unlearning and of all that tuning took, where all were spent on the same terms.",
        low=0.0,
    ),
    Column(
        "flos_efficiency_with_tuning",
        "RTE by FLOs, tuning charged",
        ("efficiency",),
        "times",
        relative=True,
        direction="higher",
        summary="FLOs of retraining over those of unlearning and of all that tuning took.",
        low=0.0,
    ),
    Column("seconds", "Unlearning time", ("attacks",), "duration", timed=True),
    Column("deletion_capacity", "Loss on D_Test within 0.05 nats of the original's", ("capacity",)),
    Column("deletion_capacity_accuracy", "Accuracy on D_Test within 0.01 of the original's", ("capacity",)),
)
COLUMN = {column.name: column for column in COLUMNS}
ACCURACIES = tuple(column for column in COLUMNS if column.retention)
RELATIVE = {column.retention for column in ACCURACIES} | {column.name for column in COLUMNS if column.relative}
#: What accuracies count where ``metrics.json`` does not say it, since an earlier release wrote it.
COUNTED = {f"{split}_accuracy": split for split in ("forget", "retain", "validation", "test")}
#: Numbers of a row that are set and not measured.
GIVEN = ("ratio", "lr")


def shown_in(place: Place, columns: Iterable[Column] = COLUMNS) -> list[Column]:
    """Those of the columns that are shown there, in their order."""
    return [column for column in columns if place in column.shown]


def averaged(column: Column) -> bool:
    """Whether it is shown over several tasks, models or ratios."""
    return not set(AVERAGED).isdisjoint(column.shown)


def described(names: Iterable[str], declared: Mapping[str, Any], timed: Iterable[str] = ()) -> list[Column]:
    """A Column for each of ``names``: those of COLUMNS first, then the rest by name.

    ``declared`` is ``metrics.json`` (name -> heading, format, direction, low, high, cites, summary); what is missing
    there or malformed is passed over.
    """
    names = set(names)
    order = [*(name for name in COLUMN if name in names), *sorted(names - COLUMN.keys())]
    return [_described(name, declared.get(name), name in timed) for name in order]


def _described(name: str, entry: Any, timed: bool) -> Column:
    told = entry if isinstance(entry, dict) else {}
    known = COLUMN.get(name)
    if known is None:
        known = Column(name, str(told.get("heading") or name.replace("_", " ")))
        known = replace(known, format=_one_of(get_args(Format), told.get("format"), "number"))
    return replace(
        known,
        timed=known.timed or timed,
        direction=_one_of(get_args(Direction), told.get("direction"), known.direction),
        summary=str(told.get("summary") or known.summary),
        cites=str(told.get("cites") or ""),
        low=_end(told.get("low"), known.low),
        high=_end(told.get("high"), known.high),
        counts=str(told.get("counts", COUNTED.get(name)) or ""),
    )


def _one_of(known: tuple[T, ...], value: Any, absent: T) -> T:
    return next((each for each in known if each == value), absent)


def _end(value: Any, absent: float) -> float:
    """A declared end of a range; ``absent`` where there is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else absent
