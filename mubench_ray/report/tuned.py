"""What tuned settings a folder's trials took, from ``tuned.json``: where each comes from, how and on what it was found, and what finding it cost."""

from __future__ import annotations

from typing import Any

from mubench_ray.report.report import Report
from mubench_ray.report.texts import Block, TextTable, cell_name, fixed
from mubench_ray.report.tuning import at_least, configuration, task_name
from mubench_ray.results.configurations import spoken
from mubench_ray.results.store import Store


def tuned_block(report: Report) -> Block:
    """A row a method and cell: what was taken, where and how it was found, and its cost."""
    choices = Store(report.results.root).read_object("tuned.json").get("choices") or []
    there = set(report.results.trials["configuration"].to_pylist())
    choices = [choice for choice in choices if choice["configuration"] in there]
    rows: dict[tuple[str, ...], None] = {}  # several draws of one forget set took the same
    seeds: set[int] = set()
    for choice in choices:
        networks, search = choice.get("networks") or {}, choice["search"]
        seeds.update(search["seeds"])
        cell = choice | {"task": task_name(choice)}
        row = (
            cell_name(cell, report.marks.cell(cell["task"], cell["model"], cell["ratio"])),
            report.results.titles.get(method := str(choice["method"]), method),
            configuration(choice),
            found_on(choice),
            f"{search['strategy']}, {choice['usable']} of {choice['configurations']} usable",
            fixed(choice["loss"]),
            at_least(choice, f"{choice['flos']:.2e}"),
            at_least(networks, f"{networks['flos']:.2e} ({networks['number']})") if networks else "",
            f"{choice['source']}, {choice['date']}",
        )
        rows[row] = None
    tasks = ", ".join(sorted({task_name(choice) for choice in choices}))
    told = (
        f"Tuned settings of {tasks}, found by an earlier search on the selection seeds {sorted(seeds)}; the selection seeds are not the reporting seeds. "
        "Where tuning is charged every method pays its trials of that search and, in full, the networks that they needed."
    )
    headers = ["", "method", "taken", "found on", "search", "loss", "FLOs", "FLOs of networks", "from"]
    return Block("Tuned settings", told, [TextTable(headers, [list(row) for row in rows])])


def found_on(choice: dict[str, Any]) -> str:
    """The forget set of the search; that it is another one than the trials' where it is."""
    on = choice["found_on"]
    other = (on["sampler"], on["ratio"]) != (choice["sampler"], choice["ratio"])
    return f"{on['sampler']}, {spoken(on['ratio'])} %" + (", another forget set than this" if other else "")
