"""The plan of a results folder: the union of what the suites planned that were run into it, each kept with its own trials.

``plan.json`` holds ``trials``, the ids of all of them, and ``suites``, an entry a suite: the suite as it was given, its ``trials`` and ``recipes``, how many
trials it plans in all (``planned``; with a search more than are known while it runs), and what it ``left_out``.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mubench_ray.results.store import Store
from mubench_ray.trial import digest

PLAN = "plan.json"
#: What of a suite says how and where it is run, not what.
HOW = ("resources", "data_dir", "mlflow_uri")


def read_plan(store: Store) -> dict[str, Any] | None:
    """The folder's plan; None where it has none that can be read (a folder that was merged by hand)."""
    plan = store.read_object(PLAN)
    return plan if isinstance(plan.get("trials"), list) else None


def of_plan(trials: pa.Table, store: Store) -> pa.Table:
    """The rows of the trials table that the folder's plan counts, all of them where it has none (a merge)."""
    plan = read_plan(store)
    return trials if plan is None else trials.filter(pc.field("trial_id").isin(pa.array(plan["trials"], pa.string())))


def entered(store: Store, entry: dict[str, Any]) -> dict[str, Any]:
    """The folder's plan with a suite's entry, which takes the place of the same suite's earlier one."""
    before = read_plan(store) or {"trials": []}
    entries = before.get("suites")
    if entries is None:  # of a release that kept the last suite's plan alone
        entries = [_of_earlier_release(store, before)] if before["trials"] else []
    mine = _what(entry["suite"])
    others = [each for each in entries if _what(each["suite"]) != mine and not _within(each, entry)]
    suites = [*others, entry]
    return {
        "recipes": list(dict.fromkeys(name for each in suites for name in each["recipes"])),
        "trials": list(dict.fromkeys(name for each in suites for name in each["trials"])),
        "left_out": entry["left_out"],
        "suites": suites,
    }


def planned(plan: dict[str, Any]) -> int:
    """How many trials a plan has in all, those that follow from a search included."""
    to_come = sum(each["planned"] - len(each["trials"]) for each in plan["suites"])
    return len(plan["trials"]) + to_come


def missing(store: Store) -> int:
    """How many planned trials have no row."""
    plan, stored, told = read_plan(store), store.finished(), store.check().get("trials", 0)
    own = stored if plan is None else stored & set(plan["trials"])
    return max(0, (told if isinstance(told, int) else 0) - len(own))


def _of_earlier_release(store: Store, plan: dict[str, Any]) -> dict[str, Any]:
    known = {"suite": store.read_object("suite.json"), "trials": plan["trials"], "planned": len(plan["trials"])}
    return known | {"recipes": plan.get("recipes", []), "left_out": plan.get("left_out", [])}


def _within(earlier: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether a suite plans and looks at all that an earlier one did; of one that was searching when it was killed not all is known."""
    looked_at = {each["name"] for each in earlier.get("observations", [])} - {
        each["name"] for each in entry["observations"]
    }
    whole = earlier["planned"] == len(earlier["trials"]) and not looked_at
    return whole and set(earlier["trials"]) <= set(entry["trials"])


def _what(suite: dict[str, Any]) -> str:
    return digest({name: value for name, value in suite.items() if name not in HOW})
