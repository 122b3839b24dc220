"""What a search chose, and what it cost, from ``search/chosen.json``."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from mubench_ray.report.grouping import group_by
from mubench_ray.report.report import Report
from mubench_ray.report.summary import contender_labels
from mubench_ray.report.texts import Block, TextTable, cell_name, duration, fixed
from mubench_ray.results.configurations import spoken
from mubench_ray.results.marks import legend
from mubench_ray.results.store import Store


def tuning_block(report: Report) -> Block:
    """A row a method and cell: how many configurations were tried and usable, the chosen one, its loss, and the cost of all of them."""
    content = Store(report.results.root).read_object("search/chosen.json")
    search = content.get("search") or {}
    titles, marks = report.results.titles, report.marks
    first = group_by(report.results.trials, ["configuration"]).first
    reported = report.results.trials.take(pa.array(first)).select(["configuration", "task", "model"])
    reported = reported.append_column("label", contender_labels(report.results).take(pa.array(first)))
    names = {row["configuration"]: row for row in reported.to_pylist()}
    rows, trials, flos = [], 0, 0.0
    for choice in content.get("choices") or []:
        trials, flos = trials + choice["trials"], flos + choice["flos"]
        if choice["trials"]:
            title = titles.get(method := str(choice["method"]), method)
            cell = choice | {"task": task_name(choice), "label": title} | names.get(choice.get("configuration"), {})
            rows.append(
                [
                    cell_name(cell, marks.cell(cell["task"], cell["model"], cell["ratio"])),
                    marks.name(cell["label"], cell["task"], cell["model"], cell["ratio"]),
                    f"{choice['usable']} of {choice['configurations']}",
                    configuration(choice) if choice["usable"] else "none usable; the given one was run",
                    fixed(choice["loss"]),
                    f"{choice['flos']:.2e}",
                    duration(choice["seconds"]),
                ]
            )
    weights = (search.get("objectives") or {}).items()
    objectives = " + ".join(f"{weight:.3g} {name}{marks.measure(name)}" for name, weight in weights)
    return Block(
        "Search on equal terms",
        f"{str(search.get('strategy', '')).capitalize()} search on the selection seeds {search.get('seeds')}, which are not reported, on D_V and never on "
        f"D_Test; judged by {objectives} (lower is better; of a metric where higher is better its distance to the best value counts). "
        f"In all {trials:,} search trials, {flos:.2e} FLOs of unlearning, are not part of the costs above.",
        [TextTable(["", "method", "usable", "chosen", "loss", "FLOs", "time"], rows, said=legend([objectives]))],
    )


def task_name(choice: dict[str, Any]) -> str:
    """The task, with its number of training examples where it was cut."""
    return f"{choice['task']}[{choice['subset']}]" if choice.get("subset") else choice["task"]


def configuration(choice: dict[str, Any]) -> str:
    """A configuration as short text."""
    parts = {"lr": choice["lr"], **choice["hyperparameters"]}
    return ", ".join(f"{name} {spoken(value)}" for name, value in parts.items() if value is not None)
