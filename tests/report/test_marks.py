"""What is to be doubted is marked wherever it is read: screen, page, charts, figures, Markdown, LaTeX, CSV, JSON, the live page, one trial's row."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from mubench_ray import console
from mubench_ray.report import legend, live, summary, summary_rows, write_report
from mubench_ray.report.charts import NAMED
from mubench_ray.report.columns import COLUMN
from mubench_ray.report.figures import figures
from mubench_ray.report.marks import ALL, Marks
from mubench_ray.report.page import render
from mubench_ray.report.report import make_report
from mubench_ray.report.sections import blocks
from mubench_ray.report.tables import hub_json, latex, markdown, paper_tables
from mubench_ray.report.write import marked as with_marks
from mubench_ray.results.marks import MARKS, SELECTED, UNCHECKED, UNTRUSTED, Verdicts, of_name, unequal_terms
from mubench_ray.results.score import SCORES
from mubench_ray.trial import canonical, configuration_of
from mubench_ray.trials.rerun import Compared
from tests.report.conftest import Folder
from tests.report.test_page import USE, browser, opened, payload, unpacked

#: What each name has to stand with, wherever it stands.
NAMES = {"retrain": "retrain°", "original": "original°", "ft": "ft‡", "neggrad": "neggrad†", "salun": "salun¶"}
CELL = {"task": "digits", "model": "cnn", "ratio": 10.0}
UNTOLD = (
    "original and retrain are not told apart by their loss on D_F at 3 seeds; a difference of 0.25 could have been seen"
)


@pytest.fixture
def doubtful(folder):
    """What ``fill`` makes, to be changed."""
    return fill(folder)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The same with its report, to be read."""
    made = fill(Folder(tmp_path_factory.mktemp("marks") / "results"))
    write_report(made.root)
    return made


def fill(folder: Folder) -> Folder:
    """FT was truncated once, NegGrad reads D_V and SalUn was tuned on a seed that it is reported on, at two ratios. At 10 % Indisc is not borne out and
    RetDev cannot be checked; at 5 % there is nothing to forget. FT's D_F is the retrain's; SalUn's is on the mean, with a wide interval."""
    at = {"finished_at": datetime(2026, 1, 1, tzinfo=UTC)}
    tuned = {"task": "digits", "model": "cnn", "method": "salun", "tuned": {"seeds": [1, 1001]}}
    tuned = canonical(configuration_of(tuned))
    numbers = at | {"test_accuracy": 0.8, "retain_accuracy": 0.9, "retention_deviation": 0.1, "flos_share": 0.2}
    curve = [{"share": 0.0}, {"share": 0.2}]
    for ratio in (5.0, 10.0):
        folder.controls(ratio=ratio, indisc=0.9, **at)
        for seed in range(3):
            own = numbers | {"seed": seed, "ratio": ratio, "curve": curve}
            status = "ok" if seed else "truncated"
            own["examples"] = {7: (True, 2.0), 8: (True, 1.0 + seed)}
            folder.add("ft", status=status, forget_accuracy=0.8 + 0.01 * seed, indisc=0.7, **own)
            folder.add("neggrad", uses_validation=True, forget_accuracy=0.1, indisc=0.99, **own)
            own |= {"retention_deviation": 0.3, "forget_accuracy": 0.81 + 0.3 * (seed - 1)}
            folder.add("salun", indisc=0.1 * ratio, configuration=tuned, **own)
    seen = {"examples": {7: (False, -1.0), 8: (True, 0.5)}}
    for ratio in (5.0, 10.0):
        folder.add("retrain", ratio=ratio, seed=9, test_accuracy=0.9, retention_deviation=0.0, **seen, **at)
    verdicts = [
        CELL | {"metric": "indisc", "verdict": "untrusted", "reason": "told apart"},
        CELL | {"metric": "retention_deviation", "verdict": "not checkable", "reason": "why should it be?"},
        CELL | {"metric": "u_lira auc", "verdict": "untrusted", "reason": "no"},
        CELL | {"metric": "forget_loss", "verdict": "trusted", "reason": "told apart"},
        CELL
        | {"ratio": 5.0, "metric": "forget_loss", "verdict": "untrusted", "reason": "-", "smallest_difference": 0.25}
        | {"original": {"seeds": 3}},
    ]
    folder.store.write_text("controls.json", json.dumps({"verdicts": verdicts}))
    score = {"metric": "u_lira", "part": "auc", "hyperparameters": "{}", "trials": 3, "sampled": False, "value": 0.625}
    score = dict.fromkeys(SCORES.names) | score | CELL
    rows = [score | {"method": method} for method in ("ft", "neggrad", "retrain")]
    folder.store.write_table("scores", "u_lira.parquet", pa.Table.from_pylist(rows, SCORES))
    choice = CELL | {
        "method": "ft",
        "trials": 2,
        "usable": 2,
        "configurations": 2,
        "loss": 0.1,
        "flos": 1.0,
        "seconds": 1,
    }
    choice |= {"lr": 5e-4, "hyperparameters": {}}
    search = {"strategy": "grid", "seeds": [1], "objectives": {"indisc": 1.0}}
    folder.store.write_text("search/chosen.json", json.dumps({"search": search, "choices": [choice]}))
    return folder


def tables_of(text: str) -> dict[str, list[list[str]]]:
    """The tables of tables.md, heading first, by their captions."""
    found = {}
    for part in text.split("## ")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
        found[part.splitlines()[0]] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return found


def bare(name: str) -> str:
    return name.rstrip("".join(mark.symbol for mark in MARKS))


def held(cells: list[str]) -> int:
    """How many of the cells are names, each of which stands with its marks."""
    found = [cell for cell in cells if bare(cell) in NAMES]
    assert all(cell == NAMES[bare(cell)] for cell in found), found
    return len(found)


def test_every_table_marks_every_name_and_number_and_explains(written):
    text = (written.root / "report" / "tables.md").read_text()
    tables = tables_of(text)
    assert {caption.split(",")[0] for caption in tables} >= {
        "Leaderboard", "Ranking (as Deep Unlearn's Table 1)", "Search on equal terms", "Controls as a gate",
        "Noise floor: retrain against retrain", "Metrics added after the run",
        "D_F against the deleted share", "D_F", "Run-time efficiency (as Deep Unlearn's Table 2)",
    } - {"D_F", "Run-time efficiency (as Deep Unlearn's Table 2)"}  # fmt: skip
    named = {caption: held([cell for row in rows for cell in row]) for caption, rows in tables.items()}
    unnamed = {"Controls as a gate", "Noise floor: retrain against retrain"}
    assert unnamed == {caption for caption, count in named.items() if not count}
    for caption, rows in tables.items():
        told = re.search(r"^Marks: (.*)\.$", text.split(f"## {caption}\n")[1].split("## ")[0], re.M)
        cells = [caption, *(cell for row in rows for cell in row if cell != "why should it be?")]
        there = [mark.told for mark in MARKS if any(mark.symbol in cell for cell in cells)]
        assert (told[1].split("; ") if told else []) == there, caption

    at_ten, at_five = (tables[f"Leaderboard, digits, cnn, {ratio} % deleted"] for ratio in (10, 5))
    heads = at_ten[0]
    assert heads[heads.index("Indisc§") + 1] == "RetDev?" and "Indisc" in at_five[0] and "RetDev" in at_five[0]
    assert all(row[heads.index("Indisc§")].partition(" ")[0].endswith("§") for row in at_ten[1:])
    assert all(row[heads.index("RetDev?")].partition(" ")[0].endswith("?") for row in at_ten[1:])
    of = {bare(row[0]): dict(zip(at_five[0], row)) for row in at_five[1:]}
    assert of["ft"]["trials"] == "3 (1‡)" and of["ft"]["D_F − retrain"].startswith("0.000≈")
    assert of["salun"]["D_F − retrain"] == f"0.000 ± {of['salun']['D_F − retrain'].split('± ')[1]}"  # not within
    (ranking,) = [rows for caption, rows in tables.items() if "By Indisc" in caption]
    assert any("By Indisc§, over 1 of 2 (task, model, ratio)" in caption for caption in tables)
    assert {row[0] for row in ranking[1:]} == {"ft‡", "neggrad†", "salun¶"}
    floor = tables["Noise floor: retrain against retrain"]
    assert {row[0]: row[floor[0].index("Indisc")] for row in floor[1:]} == {
        "digits · cnn · 10 %": "0.0000§", "digits · cnn · 5 %◊": "0.0000",
    }  # fmt: skip
    assert tables["D_F against the deleted share, digits, cnn"][0] == ["method", "5 %◊", "10 %"]
    assert [row[-1] for row in tables["Metrics added after the run, u_lira"][1:]] == ["0.625§"] * 3
    assert ["digits · cnn · 5 %◊", "forget_loss", "untrusted", "0.25", "-"] in tables["Controls as a gate"]


def test_where_nothing_can_be_told_is_said_before_any_number(written):
    said = f"digits · cnn · 5 %: {UNTOLD}."
    text = (written.root / "report" / "tables.md").read_text()
    assert text.split("\n\n")[1] == f"**Read first.** {said}"
    assert text.split("## Leaderboard, digits, cnn, 5 % deleted\n\n")[1].startswith(f"◊ {said}\n\n| method")
    assert text.split("## Leaderboard, digits, cnn, 10 % deleted\n\n")[1].startswith("| method")
    (caption,) = re.findall(
        r"\\caption\{(.*Leaderboard, digits, cnn, 5.*)\}", (written.root / "report/tables.tex").read_text()
    )
    assert caption.startswith(r"$\diamond$ digits $\cdot$ cnn $\cdot$ 5 \%: original and retrain are not told apart")
    page = (written.root / "report" / "leaderboard.html").read_text()
    assert said in page and page.index(said) < page.index("<h2>Leaderboard</h2>")
    assert summary(written.root)[0] == [said] and said in live.render(written.root)
    cells = {row["ratio"] for row in summary_rows(written.root)}
    assert cells == {"5 %◊", "10 %"}


def test_latex_has_what_markdown_has(written):
    text, latex = ((written.root / "report" / name).read_text() for name in ("tables.md", "tables.tex"))
    assert latex.count(" Marks: ") == text.count("\nMarks: ") and not set("°†‡¶§≈◊") & set(latex)
    for name, marked in {
        "ft": r"ft$\ddagger$",
        "neggrad": r"neggrad$\dagger$",
        "retrain": r"retrain$^{\circ}$",
        "salun": r"salun\P{}",
    }.items():
        starts = [line for line in latex.splitlines() if line.startswith(name)]
        assert starts and all(line.startswith(marked + " ") for line in starts)
    assert r"0.700\S{} $\pm$" in latex and r"0.000$\approx$" in latex and "truncated: trials were stopped" in latex
    assert "truncated: trials were stopped by the budget" in text


def test_csv_and_json_say_it_beside_each_name_and_number(written):
    page = written.root / "report" / "leaderboard.html"
    with (page.parent / "leaderboard.csv").open() as file:
        read = csv.DictReader(file)
        table = {(row["method"], row["ratio"]): row for row in read}
    names = list(read.fieldnames or ())
    assert names[names.index("label") + 1] == "marks" and names[names.index("indisc") + 1] == "indisc_marks"
    assert {row["marks"] for (method, _), row in table.items() if method == "ft"} == {"truncated"}
    assert (
        table["neggrad", "5"]["marks"] == "reads D_V"
        and table["salun", "5"]["marks"] == SELECTED.name
        and table["retrain", "10"]["marks"] == "control"
    )
    assert table["ft", "10"]["indisc_marks"] == "untrusted" and table["ft", "5"]["indisc_marks"] == ""
    assert table["ft", "10"]["retention_deviation_marks"] == "not checkable"
    difference = "forget_accuracy_minus_retrain_marks"
    assert [table[method, "10"][difference] for method in ("ft", "salun")] == ["within the noise floor", ""]
    assert table["ft", "5"]["not_told_apart"] == UNTOLD and table["ft", "10"]["not_told_apart"] == ""
    content = json.loads((page.parent / "leaderboard.json").read_text())
    ft = {row["ratio"]: row for row in content["rows"] if row["method"] == "ft"}
    assert ft[10]["marks"] == ["truncated"] and ft[5]["not_told_apart"] == UNTOLD
    assert ft[10]["metrics"]["indisc"]["marks"] == ["untrusted"] and "marks" not in ft[5]["metrics"]["indisc"]
    assert ft[10]["metrics"]["retention_deviation"]["marks"] == ["not checkable"]
    assert (ft[10]["untrusted"], ft[10]["unchecked"]) == (["indisc", "u_lira auc"], ["retention_deviation"])
    assert content["marks"] == {mark.name: mark.words for mark in MARKS}


def test_the_screen_marks_and_explains(written, capsys):
    shown = [row for row in summary_rows(written.root) if row["ratio"] == "10 %"]
    assert [row["method"] for row in shown] == [*NAMES.values()]
    assert all(row["RetDev"].partition(" ")[0].endswith("?") for row in shown)
    console.show_outcome(written.root, written.root / "page")
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith(f"Read first: digits · cnn · 5 %: {UNTOLD}.")
    symbols = legend(text for row in summary_rows(written.root) for text in row.values())
    assert symbols in told and all(
        mark in symbols for mark in ("‡ truncated", "? not checkable", "† reads D_V", SELECTED.told)
    )


def test_one_trial_and_a_score_are_marked(written, capsys):
    rows = {(row["method"], row["ratio"], row["seed"]): row for row in written.store.read("trials").to_pylist()}
    row = rows["ft", 10.0, 0]
    console.show_trial(written.root, row["trial_id"])
    told = capsys.readouterr().out
    assert "method ft‡\n" in told and "indisc§ 0.7\n" in told and "retention_deviation? 0.1\n" in told
    assert UNTRUSTED.told in " ".join(told.split()) and "Read first" not in told
    console.show_trial(written.root, rows["neggrad", 5.0, 1]["trial_id"])
    told = capsys.readouterr().out
    assert told.startswith(f"Read first: digits · cnn · 5 %: {UNTOLD}.") and "method neggrad†\n" in told
    assert "indisc 0.99\n" in told
    console.show_compared([Compared("indisc", 0.7, 0.7)], written.root, row)
    told = capsys.readouterr().out
    assert "same indisc§: 0.7 | 0.7" in told and "ft‡: ‡ truncated" in told
    assert UNTRUSTED.told in " ".join(told.split())
    scores = pa.Table.from_pylist(pa.parquet.read_table(written.root / "scores/u_lira.parquet").to_pylist(), SCORES)
    console.show_scores(scores, written.root)
    told = capsys.readouterr().out
    lines = [line.split() for line in told.splitlines() if "0.625" in line]
    assert held([cell for line in lines for cell in line]) == 3 and all("0.625§" in line for line in lines)
    assert "‡ truncated" in told and UNTRUSTED.name in told


def test_the_live_page_marks_and_explains(doubtful):
    shown = live.snapshot(doubtful.root)
    assert held([*shown["methods"]]) == len(NAMES)
    cut = [row for row in shown["recent"] if row["status"] == "truncated"]
    assert cut and {row["name"] for row in cut} == {"ft‡"} and "‡ truncated" in shown["legend"]
    verdict = CELL | {"metric": "forget_accuracy", "verdict": "untrusted"}
    doubtful.store.write_text("controls.json", json.dumps({"verdicts": [verdict]}))
    recent = live.snapshot(doubtful.root)["recent"]
    assert {row["marks"]["forget_accuracy"] for row in recent if row["ratio"] == 10} == {"§"}
    assert {row["marks"]["forget_accuracy"] for row in recent if row["ratio"] == 5} <= {""}
    assert "0.810§" in live.render(doubtful.root)


def test_figures_mark_and_explain(written):
    report = make_report(written.root)
    drawn = dict(figures(report))
    assert set(drawn) == {f"{name}-digits-cnn" for name in ("glance", "against-ratio", "frontier", "budget")}
    for name, spec in drawn.items():
        (names,) = [param["value"] for param in spec["params"] if param["name"] == "names"]
        assert names == {label: marked for label, marked in NAMES.items()}, name
        titles = [panel["title"] for panel in spec["concat"]]
        assert [title for title in titles if title.startswith("Indisc")] in ([], ["Indisc§"])
        assert [title for title in titles if title.startswith("RetDev")] in ([], ["RetDev?"])
        said = " ".join(spec["title"]["subtitle"])
        assert said.startswith(f"◊ digits · cnn · 5 %: {UNTOLD}.") and legend([*NAMES.values(), *titles]) in said
        for field in fields(spec["concat"]):
            if field.get("field") == "label":
                shown = [
                    told for place in ("axis", "legend") if (told := field.get(place)) and told.get("labels", True)
                ]
                assert all(told["labelExpr"] == NAMED for told in shown)
                assert field.get("title") != "method" and "tooltip" not in field
        texts = [field for field in fields(spec["concat"]) if field.get("title") == "method" or "text" in field]
        assert all(
            field.get("field", field.get("text", {}).get("field")) == "name" for field in texts if "type" in field
        )


def fields(spec):
    """Every object in a specification."""
    if isinstance(spec, dict):
        yield spec
    for each in spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ():
        yield from fields(each)


def test_what_is_untrusted_ranks_nothing(doubtful):
    report = make_report(doubtful.root)
    scopes = {(row["label"], row["ratio"]): row for row in report.scopes.to_pylist()}
    assert {scopes["ft", ratio]["indisc_dominated"] for ratio in ("10", ALL)} <= {None}
    assert not any(row["indisc_labelled"] for row in scopes.values() if row["indisc_dominated"] is None)
    assert scopes["ft", "5"]["indisc_dominated"] is True and scopes["neggrad", "5"]["indisc_dominated"] is False
    verdicts = [CELL | {"ratio": ratio, "metric": name, "verdict": "untrusted"} for ratio in (5.0, 10.0) for name in
                ("indisc", "retention_deviation")]  # fmt: skip
    doubtful.store.write_text("controls.json", json.dumps({"verdicts": verdicts}))
    report = make_report(doubtful.root)
    (ranking,) = [block for block in blocks(report) if block.title.startswith("Ranking")]
    assert len(ranking.tables) == 2 and all(table.headers[0].startswith("no ranking") for table in ranking.tables)
    assert set(report.board["group"].to_pylist()) == {""}
    board = unpacked(payload(render(report, []))["board"])
    names = [row["label"] for row in board if row["ratio"] == 10 and not row["control"]]
    assert names == sorted(names)  # SalUn's RetDev is the largest


def test_a_wide_interval_around_nothing_is_not_within_the_floor(written):
    report = make_report(written.root)
    column = COLUMN["forget_accuracy_minus_retrain"]
    found = {row["label"]: row for row in report.rows if row["ratio"] == 10}
    assert abs(found["salun"][column.name]) < 1e-9  # and the floor is more
    assert [report.marks.within(found[label], column) for label in ("ft", "salun")] == [True, False]
    alone = found["ft"] | {f"{column.name}_low": None, f"{column.name}_high": None}  # one seed
    assert not report.marks.within(alone, column)
    assert not report.marks.within(found["retrain"], column)  # from itself


def test_over_several_cells_what_holds_in_one_is_told():
    row = {"task": "digits", "model": "cnn", "ratio": 5.0, "label": "ft", "method": "ft", "uses_validation": False}
    row |= {"options": "{}", "truncated": 0, "unequal_terms": False, "at_edge": "", "on_selection_seeds": 0}
    row |= {"untrusted": "", "unchecked": "", "not_told_apart": ""}
    other = {"ratio": 10.0, "truncated": 2, "untrusted": "u_mia, zrf", "unchecked": "kl", "not_told_apart": "no"}
    marks = Marks(pa.Table.from_pylist([row, row | other]))
    assert [marks.name("ft", "digits", ALL, ratio) for ratio in (5.0, "10", ALL)] == ["ft", "ft‡", "ft‡"]
    assert [marks.measure("zrf", "digits", "cnn", ratio) for ratio in (5.0, 10.0, ALL)] == ["", "§", "§"]
    assert [marks.ranks("zrf", "digits", "cnn", ratio) for ratio in (5.0, 10.0, ALL)] == [True, False, False]
    assert marks.measure("kl") == "?" and marks.ranks("kl")
    assert [marks.cell("digits", "cnn", ratio) for ratio in (5.0, 10.0, ALL)] == ["", "◊", "◊"]
    assert marks.name("other") == "other" and marks.measure("indisc") == ""


def test_only_what_was_tuned_on_a_seed_that_it_is_reported_on_is_marked_so():
    configuration = json.dumps({"contender": {"method": "ft", "tuned": {"seeds": [0, 1]}}})
    row = {"method": "ft", "uses_validation": False, "status": "ok", "configuration": configuration}
    marked = [of_name(row | {"seed": seed, "training_seed": of}) for seed, of in ((0, 0), (7, 1), (7, 8))]
    assert marked == [(SELECTED,), (SELECTED,), ()]
    assert not of_name(row | {"seed": 0, "training_seed": 0, "configuration": None})


def test_of_several_forget_draws_the_worst_is_told():
    draws = ("trusted", "not checkable", "untrusted")
    found = Verdicts(
        CELL | {"metric": "zrf", "verdict": verdict, "forget_seed": draw} for draw, verdict in enumerate(draws)
    )
    assert found.marks("zrf", "digits", "cnn", 10.0) == (UNTRUSTED,)
    found = Verdicts(CELL | {"metric": "zrf", "verdict": verdict} for verdict in draws[:2])
    assert found.marks("zrf", "digits", "cnn", 10.0) == (UNCHECKED,)
    few = CELL | {"metric": "forget_loss", "verdict": "not checkable"}
    assert "too few seeds" in Verdicts([few]).untold["digits", "cnn", 10.0]
    few |= {"smallest_difference": 0.5, "original": {"seeds": 4}, "retrain": {"seeds": 3}}
    told = Verdicts([few]).untold["digits", "cnn", 10.0]
    assert told.endswith("loss on D_F at 3 seeds; a difference of 0.5 could have been seen")
    assert Verdicts([few | {"verdict": "trusted"}]).untold == {}


def test_the_documentation_has_every_mark():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    assert re.findall(r"^\| (\S [^|]*) \| a ", text, re.M) == [f"{mark.symbol} {mark.name}" for mark in MARKS]


SORT = """<script>setTimeout(() => {
  [...document.querySelectorAll("#board th")].find(th => th.textContent.startsWith("Indisc")).click();
}, 12000)</script>"""


@pytest.mark.skipif(browser() is None, reason="no Chromium or Chrome here")
def test_the_page_marks_and_explains(written, tmp_path):
    path = tmp_path / "page.html"
    head, end, tail = (written.root / "report" / "leaderboard.html").read_text().rpartition("</body>")
    path.write_text(head + SORT + end + tail)
    page = opened(path, tmp_path)
    chips = re.findall(r'class="chip".*?<span>([^<]*)</span></button>', page)
    assert held(chips) == len(NAMES)
    board = page[page.index('<table id="board">') : page.index("</table>")]
    assert ">Indisc§ ↑<" in board and ">RetDev? ↓<" in board
    rows = [re.sub(r"<[^>]*>", " ", row).split() for row in re.findall(r'<tr class="row.*?</tr>', board)]
    assert [row[row.index("%") - 1] for row in rows] == ["5"] * 5 + ["10"] * 5  # sorted by Indisc, the untrusted last
    assert rows[0][0] == "neggrad" and all("◊" in row for row in rows[:5]) and all("§" in row for row in rows[5:])
    letters = re.findall(r'<td class="letters">([^<]+)</td>', board)
    assert any(re.fullmatch(r"[a-z]+\?", text) for text in letters) and "a" in letters  # by RetDev
    assert all("?" in row for row in rows[5:]) and "1 truncated" in " ".join(
        next(row for row in rows if row[0] == "ft")
    )
    for chart in ("glance", "ratio", "frontier", "budget", "resisting", "lira"):
        section = page[page.index(f'data-chart="{chart}"') :]
        section = section[: section.index("</section>")]
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", section)
        told = re.search(r'class="note legend">([^<]*)<', section)
        assert told and "◊ not told apart" in told[1]
        assert held(texts) or chart in ("ratio", "budget")  # whose legend are the chips
        if chart == "glance":
            assert {bare(text) for text in texts if bare(text) in NAMES} == set(NAMES) and "Indisc§" in texts
            assert "‡ truncated" in told[1] and "§ untrusted" in told[1] and "° control" in told[1]
        if chart == "frontier":
            assert "Indisc§" in texts and "RetDev?" in texts and "? not checkable" in told[1]


@pytest.mark.skipif(browser() is None, reason="no Chromium or Chrome here")
def test_the_marks_of_the_page_follow_its_filters(written, tmp_path):
    path = tmp_path / "page.html"
    head, end, tail = (written.root / "report" / "leaderboard.html").read_text().rpartition("</body>")
    path.write_text(head + USE + end + tail)  # 5 %
    page = opened(path, tmp_path)
    glance = page[page.index('id="glance-panels"') : page.index('data-chart="ratio"')]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", glance)
    assert "Indisc" in texts and "Indisc§" not in texts and "ft‡" in texts
    assert "§ untrusted" not in glance and "◊ not told apart" in glance


def test_an_original_of_other_weights_than_its_retrains_stands_on_unequal_terms(folder):
    """A fine-tuned one beside a retrain from random weights: on every surface, behind every name."""
    elsewhere = {"trial": json.dumps({"original_checkpoint": "fine-tuned"})}
    elsewhere["finished_at"] = datetime(2026, 1, 1, tzinfo=UTC)
    for seed in range(2):
        folder.add("ft", seed=seed, forget_accuracy=0.8, test_accuracy=0.7, **elsewhere)
        folder.add("retrain", seed=seed, forget_accuracy=0.6, test_accuracy=0.7, **elsewhere)
    report = make_report(folder.root)
    tables = list(paper_tables(report, blocks(report)))
    text = markdown(report, tables)
    assert "| ft≠ |" in text and "| retrain°≠ |" in text
    assert "≠ unequal terms: the original started from other weights" in text
    assert r"ft$\neq$" in latex(report, tables)
    assert set(with_marks(report.board, report)["marks"].to_pylist()) == {"unequal terms", "control, unequal terms"}
    assert all(row["marks"][-1:] == ["unequal terms"] for row in json.loads(hub_json(report))["rows"])
    assert all(row["unequal_terms"] for row in unpacked(payload(render(report, blocks(report)))["board"]))
    assert {row["method"] for row in summary_rows(folder.root)} == {"ft≠", "retrain°≠"}


SETTING = {"task": "digits", "original_checkpoint": "fine-tuned"}


@pytest.mark.parametrize(
    ("more", "unequal"),
    [
        ({}, True),
        ({"pretrained": "base"}, False),
        ({"original_from": "random"}, False),
        ({"pretrained": "base", "saw": "train"}, False),
        ({"pretrained": "base", "saw": "train", "subset": 300}, True),
        ({"original_checkpoint": None}, False),
    ],
)
def test_terms_are_equal_where_the_retrain_starts_from_what_the_original_did(more, unequal):
    setting = {name: value for name, value in (SETTING | more).items() if value is not None}
    assert (
        unequal_terms(json.dumps({"contender": {"method": "ft"}, "setting": setting}, separators=(",", ":"))) is unequal
    )
    assert unequal_terms(None) is False
