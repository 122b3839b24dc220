"""What a search chose, and what it cost, from ``search/chosen.json``."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from mubench_ray.report.grouping import group_by
from mubench_ray.report.report import Report
from mubench_ray.report.summary import contender_labels
from mubench_ray.report.texts import Block, TextTable, cell_name, duration, fixed
from mubench_ray.results.configurations import spoken
from mubench_ray.results.marks import AT_EDGE, legend
from mubench_ray.results.store import Store
from mubench_ray.status import USABLE

#: What a strategy is called where it is not its name.
STRATEGIES = {"nsga3": "NSGA-III"}


def tuning_block(report: Report) -> Block:
    """A row a method and cell: how many configurations were tried and usable, the chosen one, its loss, what became of its trials, and the cost of all of
    them and of the networks of the selection seeds."""
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
            networks = choice.get("networks") or {}
            rows.append(
                [
                    cell_name(cell, marks.cell(cell["task"], cell["model"], cell["ratio"])),
                    marks.name(cell["label"], cell["task"], cell["model"], cell["ratio"]),
                    f"{choice['usable']} of {choice['configurations']}",
                    configuration(choice) if choice["usable"] else "none usable; the given one was run",
                    fixed(choice["loss"]),
                    ended(choice),
                    at_least(choice, f"{choice['flos']:.2e}"),
                    spent(choice),
                    at_least(networks, f"{networks['flos']:.2e} ({networks['number']})") if networks else "",
                ]
            )
    weights = (search.get("objectives") or {}).items()
    join, by = (", ", "the Euclidean norm of ") if search.get("chosen_by") == "norm" else (" + ", "")
    objectives = join.join(f"{weight:.3g} {name}{marks.measure(name)}" for name, weight in weights)
    strategy = str(search.get("strategy", ""))
    told = (
        f"{STRATEGIES.get(strategy, strategy.capitalize())} search on the selection seeds {seeds_of(report, search)}, on D_V and never on "
        f"D_Test; judged by {by}{objectives} (lower is better; of a metric where higher is better its distance to the best value counts){one_of(search)}. "
        f"In all {trials:,} search trials, {flos:.2e} FLOs of unlearning, those that diverged, failed or ran out of memory with what they had spent by then"
    )
    if networks := content.get("networks"):
        told += (
            f", and {networks['number']} originals and retrains of the selection seeds, {networks['flos']:.2e} FLOs. "
            "Where tuning is charged every method pays its own trials and, in full, the networks that they needed"
        )
    headers = ["", "method", "usable", "chosen", "loss", "trials", "FLOs", "time", "FLOs of networks"]
    return Block("Search on equal terms", f"{told}.", [TextTable(headers, rows, said=legend([objectives]))])


def seeds_of(report: Report, search: dict[str, Any]) -> str:
    """The selection seeds, and which of them are reporting seeds."""
    trials = report.results.trials
    seeds = {seed for name in ("seed", "training_seed") for seed in trials[name].unique().to_pylist()}
    shared = [seed for seed in search.get("seeds") or [] if seed in seeds]
    return (
        f"{search.get('seeds')}, of which {shared} are reported too"
        if shared
        else f"{search.get('seeds')}, which are not reported"
    )


def one_of(search: dict[str, Any]) -> str:
    """How several sweeps become one configuration."""
    if (sweeps := search.get("sweeps") or 1) == 1:
        return ""
    alone = ", each judged on the seed of its own sweep alone" if search.get("sweeps_on") == "own_seed" else ""
    return f". Of the configurations of all {sweeps} sweeps together the best one is taken{alone}"


def ended(choice: dict[str, Any]) -> str:
    """How many search trials there were, and what became of those without a network."""
    bad = {name: number for name, number in (choice.get("ends") or {}).items() if name not in USABLE}
    return ", ".join([str(choice["trials"]), *(f"{number} {name.replace('_', ' ')}" for name, number in bad.items())])


def at_least(bill: dict[str, Any], text: str) -> str:
    """A cost; of which some is not known it is at least that."""
    return f"≥ {text}" if bill.get("unknown") else text


def spent(choice: dict[str, Any]) -> str:
    """The seconds of a choice's trials; those on several terms have no sum."""
    if choice["seconds"] is None:
        return f"on {len(choice['terms'])} kinds of terms"
    return at_least(choice, duration(choice["seconds"]))


def task_name(choice: dict[str, Any]) -> str:
    """The task, with its number of training examples where it was cut."""
    return f"{choice['task']}[{choice['subset']}]" if choice.get("subset") else choice["task"]


def configuration(choice: dict[str, Any]) -> str:
    """A configuration as short text; what lies at the edge of what was searched is marked."""
    parts = {"lr": choice["lr"], **choice.get("options", {}), **choice["hyperparameters"]}
    edges = choice.get("edges") or ()
    said = {
        name: spoken(value) + AT_EDGE.symbol * (name in edges) for name, value in parts.items() if value is not None
    }
    return ", ".join(f"{name} {text}" for name, text in said.items())
