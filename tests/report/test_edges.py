"""What is best at the edge of what was tried says so beside its name, wherever that stands."""

import json

import pytest

from mubench_ray.methods.base import EDGE, Space
from mubench_ray.report import summary_rows
from mubench_ray.report.payload import payload
from mubench_ray.report.report import make_report
from mubench_ray.report.sections import blocks
from mubench_ray.report.tables import hub_json, latex, markdown, paper_tables
from mubench_ray.report.write import marked
from mubench_ray.results.marks import AT_EDGE, TrialMarks, chosen_at_edge
from mubench_ray.results.mlflow_sink import _doubts
from mubench_ray.search import Configuration, Ranges
from tests.report.test_page import unpacked


@pytest.mark.parametrize(
    "space, edges, inside",
    [
        (Space("choice", choices=(1e-4, 1e-3, 1e-2)), (1e-4, 1e-2), (1e-3,)),
        (Space("choice", choices=("mixed", "passes")), (), ("mixed", "passes")),
        (Space("choice", choices=(True, False)), (), (True, False)),
        (Space("choice", choices=(1e-3,)), (), (1e-3,)),
        # The outer 5 % of four decades: .2 of one.
        (Space("log_uniform", 1e-5, 1e-1), (1e-5, 1.5e-5, 7e-2, 1e-1), (1.7e-5, 1e-3, 6e-2)),
        # Nothing may be below a uniform's low: there is no further out.
        (Space("uniform", 1.0, 10.0), (9.6, 10.0), (1.0, 1.1, 9.5)),
        (Space("integer", 1, 10), (10,), (1, 5, 9)),
        (Space("uniform", 0.0, 1.0, least=0.0, most=1.0), (), (0.0, 1.0)),
        (Space("uniform", 0.1, 0.9, least=0.0, most=1.0), (0.1, 0.9, 0.87), (0.2, 0.5)),
    ],
)
def test_the_edge_of_a_space(space, edges, inside):
    assert EDGE == 0.05
    assert [space.at_edge(value) for value in (*edges, *inside)] == [True] * len(edges) + [False] * len(inside)


def test_a_configuration_names_what_lies_at_an_edge():
    spaces = {
        "lr": Space("choice", choices=(1, 2, 3)),
        "std": Space("log_uniform", 1, 10),
        "form": Space("choice", choices=("a", "b")),
    }
    chosen = Configuration({"std": 1.0, "form": "a", "epochs": 10}, 2)
    assert Ranges(spaces, chosen).at_edge(chosen) == ["std"]
    assert Ranges(spaces, chosen).at_edge(Configuration({"std": 3.0, "form": "a"}, 3)) == ["lr"]


def configuration(method, **more):
    setting = {"task": "digits", "model": "cnn", "sampler": "class_balanced", "sampler_options": {}}
    return json.dumps(
        {"contender": {"method": method, **more}, "setting": setting}, sort_keys=True, separators=(",", ":")
    )


def grid(folder, method, losses, **more):
    """A trial a learning rate, with so much of a loss on D_V."""
    for lr, loss in losses.items():
        found = {"retain_gap": loss, "forget_gap": loss, "validation_gap": loss, "indisc_validation": 1 - loss}
        folder.add(method, lr=lr, configuration=configuration(method, lr=lr), test_accuracy=0.5 + loss, **found, **more)


@pytest.fixture
def filled(folder):
    """A grid of FT that is best at its end, one of NegGrad that is best within, two rates of SalUn, and CT tuned."""
    folder.controls()
    grid(folder, "ft", {1e-5: 0.3, 1e-4: 0.2, 1e-3: 0.1})
    grid(folder, "neggrad", {1e-5: 0.3, 1e-4: 0.1, 1e-3: 0.2})
    grid(folder, "salun", {1e-5: 0.3, 1e-4: 0.1})
    tuned = configuration("ct", tuned={"strategy": "grid"})
    folder.add("ct", lr=1e-2, configuration=tuned, test_accuracy=0.9)
    choice = {
        "task": "digits",
        "model": "cnn",
        "ratio": 10.0,
        "method": "ct",
        "configuration": tuned,
        "lr": 1e-2,
        "trials": 3,
        "usable": 3,
        "configurations": 3,
    }
    choice |= {"hyperparameters": {"epochs": 3}, "edges": ["lr"], "loss": 0.1, "flos": 1.0, "seconds": 1.0}
    folder.store.write_text("search/chosen.json", json.dumps({"search": {"strategy": "grid"}, "choices": [choice]}))
    return folder


def test_the_mark_stands_wherever_the_name_does(filled):
    edges = {row["label"]: row["at_edge"] for row in make_report(filled.root).rows if row["at_edge"]}
    assert edges == {"ft · lr 1e-3": "lr", "ct": "lr"}
    assert {row["method"] for row in summary_rows(filled.root) if AT_EDGE.symbol in row["method"]} == {
        "ft · lr 1e-3⊣",
        "ct⊣",
    }
    report = make_report(filled.root)
    shown = blocks(report)
    rows = {row["label"]: row for row in marked(report.board, report).to_pylist()}  # of the CSV
    assert rows["ct"]["marks"] == "best at the edge" and rows["neggrad · lr 1e-3"]["marks"] == ""
    told = {row["label"]: row for row in json.loads(hub_json(report))["rows"]}
    assert told["ct"]["marks"] == ["best at the edge"] and told["ct"]["at_edge"] == "lr"
    tables = list(paper_tables(report, shown))
    assert "| ct⊣ |" in (text := markdown(report, tables)) and AT_EDGE.told in text
    assert "lr 0.01⊣, epochs 3" in text  # beside the value itself
    assert r"ct$\dashv$ &" in latex(report, tables)
    board = unpacked(payload(report)["board"])
    assert {row["label"]: row["at_edge"] for row in board if row["at_edge"]} == edges  # of the page


def test_a_trial_of_a_tuned_contender_has_it_too(filled):
    marks = TrialMarks(filled.store)
    rows = {row["method"]: row for row in filled.store.read("trials").to_pylist()}
    assert marks.name(rows["ct"]) == "ct⊣" and marks.name(rows["neggrad"]) == "neggrad"
    assert AT_EDGE.told in "".join(_doubts(rows["ct"], marks).values())


def test_without_what_a_search_judges_by_nothing_is_said_of_a_grid(folder):
    for lr in (1e-5, 1e-4, 1e-3):
        folder.add("ft", lr=lr, configuration=configuration("ft", lr=lr), test_accuracy=lr)
    assert not any(row["at_edge"] for row in make_report(folder.root).rows)


def test_what_an_earlier_search_chose_keeps_its_mark(folder):
    choice = {"configuration": "c", "ratio": 10.0, "edges": ["lr"]}
    folder.store.write_text(
        "tuned.json", json.dumps({"choices": [choice, choice | {"configuration": "d", "edges": []}]})
    )
    assert chosen_at_edge(folder.store) == {("c", 10.0): ["lr"]}
