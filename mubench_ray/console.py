"""What the command line shows: tables, the plan, live progress. Everything here only reads."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mubench_ray.errors import MubenchError, ResultsError, did_you_mean, flat, harmless, reason_of
from mubench_ray.results.compaction import file_of
from mubench_ray.results.marks import TrialMarks, legend
from mubench_ray.results.observations import standing
from mubench_ray.results.plans import of_plan
from mubench_ray.results.store import Store
from mubench_ray.status import is_usable

if TYPE_CHECKING:
    import pyarrow as pa

    from mubench_ray.engine.plan import Plan
    from mubench_ray.engine.run import Run
    from mubench_ray.engine.schedule import Progress as Standing
    from mubench_ray.trials.rerun import Compared


class Plain(Console):
    """A console to which every text may be somebody else's: nothing in it is markup or an emoji's name, and nothing steers the terminal."""

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is shown, in a line or in a cell."""
        return super().render_str(harmless(text), **options)


def styled(*parts: str | tuple[str, str]) -> Text:
    """One text of parts, some of them ``(text, style)``."""
    return Text.assemble(*(harmless(part) if isinstance(part, str) else (harmless(part[0]), part[1]) for part in parts))


console = Plain()
#: Seconds between two lines of progress where they go into a file.
TELL_EVERY = 30.0


def plain_table(*columns: str, **options: Any) -> Table:
    """A table without lines, its headings in bold."""
    return Table(*columns, box=None, header_style="bold", pad_edge=False, **options)


def show_registry(kind: str | None, name: str | None) -> None:
    """``mubench list``: a line for everything of a kind, or of every kind, whose name fits, or all about one name."""
    from mubench_ray.kinds import KINDS
    from mubench_ray.listing import WILD, details, in_columns, lines

    if kind is not None and kind not in KINDS and name is None:
        kind, name = None, kind  # a name, of whatever kind
    if kind is not None and kind not in KINDS:
        raise MubenchError(f"{kind!r} is no kind of thing. {did_you_mean(kind, KINDS)}")
    kinds = [kind] if kind else list(KINDS)
    if name is not None and not WILD & set(name):
        for said in details(kinds, name).values():
            for label, value in said.items():
                console.print(styled((label, "bold"), f": {value}"), soft_wrap=True)
        return
    # What goes into a pipe is not cut.
    for line in in_columns(lines(kinds, name or "*"), console.width if console.is_terminal else None):
        console.print(line, soft_wrap=True, highlight=False)
    if console.is_terminal and name is None:
        console.print(styled((f"mubench list {kind or 'KIND'} NAME says more.", "dim")))


def show_plan(plan: Plan, trials: bool) -> None:
    """Counts, what is left out, and the estimated cost."""
    from mubench_ray.engine.estimate import estimate
    from mubench_ray.engine.plan import kept_bytes
    from mubench_ray.engine.tuned import said_of

    suite = plan.suite
    made = f"{len(plan.originals):,} originals and {len(plan.retrains):,} retrains"
    if scoring := sum(recipe.kind == "scoring" for recipe in plan.recipes.values()):
        made += f" and {scoring:,} scoring network{'s' * (scoring > 1)}"
    console.print(styled((suite.name, "bold"), f": {len(plan.trials):,} trials, after {made}"))
    table = plain_table("task", "model", "method", "trials")
    for (task, model, method), count in Counter(lines := lines_of(plan)).items():
        table.add_row(task, model, method, f"{count:,}")
    console.print(table)
    if suite.search:
        from mubench_ray.engine.tuning import planned_search

        search = suite.search
        shared = sorted({*suite.seeds, *(suite.training_seeds or [])} & set(search.seeds))
        own = (
            f"seeds {search.seeds}, of which {shared} are reported too"
            if shared
            else f"seeds of their own {search.seeds}"
        )
        console.print(f"{search.strategy} search: at most {planned_search(suite):,} trials before those, on {own}")
        console.print(f"chosen: {search.told}")
    for note in suite.notes:
        console.print(styled(("note", "yellow"), f" {note}"))
    for name, said in plan.found.items():
        console.print(styled((name, "bold"), f": {said}"), soft_wrap=True)
    for line in said_of(plan.settled):
        console.print(styled(("tuned settings", "bold"), f" {line}"))
    for part in plan.untuned:
        console.print(styled(("not tuned", "yellow"), f" {part.what} ({part.trials:,} trials): {part.reason}"))
    for part in plan.left_out:
        console.print(styled(("left out", "yellow"), f" {part.what} ({part.trials:,} trials): {part.reason}"))
    for part in plan.unobservable:
        console.print(styled(("not observed", "yellow"), f" {part.what} ({part.trials:,} trials): {part.reason}"))
    for remark in plan.remarks:
        console.print(styled(("checkpoint", "yellow"), f" {remark}"), soft_wrap=True)
    kept, size = kept_bytes(plan)
    if kept:
        console.print(
            f"keep: {suite.keep}: {kept:,} unlearned networks, about {size / 1e9:.2f} GB beside the artifacts"
        )
    console.print(estimate(plan))
    if trials:
        for (trial_id, t), (task, model, _) in zip(plan.trials.items(), lines, strict=True):
            lr = "-" if t.lr is None else f"{t.lr:g}"
            hyper = json.dumps(t.hyperparameters)
            console.print(
                f"{trial_id} {task} {model} {t.method} {t.ratio:g}% seed {t.seed} lr {lr} {hyper}",
                soft_wrap=True,
                highlight=False,
            )


def show_settings(path: Path | None) -> bool:
    """A line for each of the tuned settings of a file, or that come with the package; False where one is stale."""
    from mubench_ray.results.configurations import spoken
    from mubench_ray.tuned.settings import all_shipped, read

    stale = []
    for each in read(path) if path else all_shipped():
        parts = {"lr": each.trial.lr, **each.trial.hyperparameters}
        told = ", ".join(f"{name} {spoken(value)}" for name, value in parts.items() if value is not None)
        how = f"{each.search['strategy']} on seeds {', '.join(map(str, each.seeds))}, loss {each.cost['loss']:.4f}, {each.date}"
        console.print(styled((each.name, "bold"), f": {told} ({how})"), soft_wrap=True)
        stale += [f"{each.name}: {reason}" for reason in [each.stale()] if reason]
    for line in stale:
        console.print(styled(("stale", "yellow"), f" {line}"), soft_wrap=True)
    return not stale


def lines_of(plan: Plan) -> list[tuple[str, str, str]]:
    """For each trial of a plan the names of its task, its model and its method, which tell apart what a report tells apart, but for learning rates."""
    from mubench_ray.results.configurations import contender_names, setting_names
    from mubench_ray.trial import canonical

    contents = {text: json.loads(text) for text in {trial.configuration for trial in plan.trials.values()}}
    settings = setting_names(contents)
    at_any_lr = {
        text: canonical(content | {"contender": {k: v for k, v in content["contender"].items() if k != "lr"}})
        for text, content in contents.items()
    }
    contenders = contender_names(at_any_lr.values(), {})
    return [(*settings[each := trial.configuration], contenders[at_any_lr[each]]) for trial in plan.trials.values()]


@contextmanager
def live_progress(standing: Standing) -> Iterator[None]:
    """done / running / failed / truncated, trials a minute and time left, while the engine runs."""
    bar_where_it_fits = [BarColumn(bar_width=24)] if console.width >= 110 else []
    columns = (*bar_where_it_fits, TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, refresh_per_second=4) as bars:
        bar = bars.add_task("starting", total=standing.total)
        stop = threading.Event()
        began = time.monotonic()
        told = [began]

        def describe() -> str:
            minutes = (time.monotonic() - began) / 60
            rate = standing.done / minutes if minutes > 0 else 0.0
            left = f"{(standing.total - standing.done) / rate:.1f} min left" if rate else "time left unknown"
            making = standing.artifacts_done < standing.artifacts_total
            made = f"artifacts {standing.artifacts_done}/{standing.artifacts_total}, " if making else ""
            if standing.draining:
                return f"ending: {standing.running} still running, {standing.done}/{standing.total} done; Ctrl-C again ends at once"
            return (
                f"{made}{standing.done}/{standing.total} done, {standing.running} running, {standing.failed} failed, "
                f"{standing.truncated} truncated, {rate:.0f}/min, {left}"
            )

        def refresh() -> None:
            while not stop.wait(0.5):
                bars.update(bar, completed=standing.done, description=describe())
                # The log of a job has no line that renews itself.
                if not console.is_terminal and time.monotonic() > told[0] + TELL_EVERY:
                    told[0] = time.monotonic()
                    console.print(describe())

        thread = threading.Thread(target=refresh, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            bars.update(bar, completed=standing.done, description=describe())


def show_outcome(folder: Path, page: Path, failures: bool = True) -> None:
    """The table at the end of a run, what failed if ``failures`` are wanted, and where the page is."""
    from mubench_ray.report import summary

    first, rows = summary(folder)
    _say_first(first)
    if rows:
        constant = [
            name
            for name in rows[0]
            if name.lower() in ("task", "model", "lr") and len({row[name] for row in rows}) == 1
        ]
        title = flat(", ".join(f"{name.lower()} {rows[0][name]}" for name in constant))
        table = plain_table(title=title or None, title_justify="left")
        table.padding = (0, 1, 0, 0)
        for name in (shown := [name for name in rows[0] if name not in constant]):
            # Where it is narrow names take several lines: what tells two lines apart may stand at their end. No word is cut, and no number.
            words = [word for text in (name, *(_cell(row[name]) for row in rows)) for word in text.split()]
            named = name.lower() in ("task", "model", "method")
            table.add_column(name, justify="left" if named else "right", min_width=max(map(len, words), default=1))
        for row in rows:
            table.add_row(*(_cell(row[name]) for name in shown))
        console.print(table)
        _say_marks(text for row in rows for text in row.values())
    if failures:
        _show_failures(folder)
    console.print(styled("Leaderboard: ", (str(page), "bold")), soft_wrap=True)


def _say_first(lines: Iterable[str]) -> None:
    """What is to be read before the numbers."""
    for line in lines:
        console.print(styled(("Read first: ", "bold yellow"), flat(line)), soft_wrap=True)


def _say_marks(texts: Iterable[str]) -> None:
    """What the marks in these texts mean."""
    if told := legend(texts):
        console.print(styled((told, "dim")))


def show_end(run: Run, command: str) -> None:
    """The last lines of a run: what was left out, what failed, each reason once, and the command that goes on or tries again. Nothing where all is well."""
    lines = []
    if run.left_out:
        lines.append(f"{sum(run.left_out.values())} trials were left out of the plan: {reasons(run.left_out)}.")
    told = [f"{sum(run.failed.values())} of {run.planned} trials failed: {reasons(run.failed)}"] if run.failed else []
    if run.search_failed:
        told.append(f"{sum(run.search_failed.values())} trials of the search failed: {reasons(run.search_failed)}")
    if run.unobserved:
        told.append(f"{sum(run.unobserved.values())} observations could not be made: {reasons(run.unobserved)}")
    if told:
        again = f"To try {'them' if run.retriable > 1 else 'it'} again: {command} --retry-failed"
        alike = "What diverged would diverge again." if run.failed or run.search_failed else ""
        what = again if run.retriable else alike
        lines.append(f"{'; '.join(told)}. `mubench status {run.out}` says which. {what}".rstrip())
    if not run.complete:
        lines.append(f"Interrupted: {run.finished} of {run.planned} trials are done. To go on: {command}")
    for line in lines:
        console.print(styled((line, "yellow" if run.exit_code < 2 else "red")), soft_wrap=True)


def reasons(counts: dict[str, int], most: int = 10) -> str:
    """Reasons with how often each was given, most frequent first."""
    shown = [flat(f"{reason} (x{count})") for reason, count in list(counts.items())[:most]]
    rest = len(counts) - len(shown)
    return "; ".join([*shown, *([f"and {rest} other reasons"] if rest else [])])


def say_error(what: str, error: BaseException, advice: str) -> None:
    """In one line, what went wrong and what to do."""
    console.print(styled((f"{what}: {reason_of(error).rstrip('.')}. {advice}", "yellow")), soft_wrap=True)


def _cell(value: object) -> str:
    """A value as it is shown; where the terminal is narrow, a mean without its interval (the page has it)."""
    if value is None:
        return ""
    text = f"{value:.3f}" if isinstance(value, float) else flat(str(value))
    return text if console.width >= 110 else text.split(" ±")[0]


def show_status(folder: Path) -> None:
    """How far a run is; of a leaderboard, who handed what over."""
    from mubench_ray.results.leaderboard import SUBMISSIONS

    store = Store(folder)
    manifest = store.check(must_exist=True)
    rows = store.read("trials", columns=["trial_id", "status"])
    mine = of_plan(rows, store)
    counts = Counter(mine["status"].to_pylist())
    summary = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    groups = store.read_object(SUBMISSIONS)
    of = f"trials of {len(groups)} groups" if groups else f"of {manifest.get('trials', 0)} trials done"
    standing_line = f": {len(mine)} {of}" + (f" ({summary})" if summary else "")
    console.print(styled((flat(str(manifest.get("suite", folder.name))), "bold"), standing_line))
    for name, entry in groups.items():
        shared = f", {entry['shared']} of them there before" if entry["shared"] else ""
        console.print(flat(f"{name}: {entry['trials']} trials of suite {entry['suite']}{shared}"), soft_wrap=True)
    if observed := standing(store):
        console.print(flat(observed))
    if others := len(rows) - len(mine):
        console.print(f"{others} more rows are of no suite that was run here.")
    _show_failures(folder)
    search = store.part("search")
    if told := search.check():
        console.print(f"search: {len(search.finished())} of at most {told.get('trials', 0)} trials done")


def _show_failures(folder: Path, most: int = 10) -> None:
    store = Store(folder)
    rows = of_plan(store.read("trials", columns=["trial_id", "method", "status", "error", "flos"]), store)
    bad = [row for row in rows.to_pylist() if not is_usable(row)]
    for reason, count in Counter((row["method"], row["status"], row["error"]) for row in bad).most_common(most):
        first = next(row["trial_id"] for row in bad if (row["method"], row["status"], row["error"]) == reason)
        method, status, error = reason
        look = f"mubench logs {shlex.quote(str(folder))} {shlex.quote(first)}"
        console.print(styled((flat(status), "red"), flat(f" {method} x{count}: {error} ({look})")), soft_wrap=True)


def find_row(folder: Path, trial_id: str) -> dict[str, Any]:
    """The one row whose trial id starts so; raises ResultsError where there is none or several."""
    rows = [row for row in Store(folder).read("trials").to_pylist() if row["trial_id"].startswith(trial_id)]
    if len(rows) != 1:
        raise ResultsError(f"{folder}: {len(rows)} trials have an id that starts with {trial_id!r}.")
    return rows[0]


def show_trial(folder: Path, trial_id: str) -> None:
    """One trial's row, and the traceback of its failure."""
    row, marks = find_row(folder, trial_id), TrialMarks(Store(folder))
    _say_first(marks.said(row))
    shown = {name: (marks.measure(name, row), value) for name, value in row.items() if value is not None}
    shown["method"] = "", marks.name(row)
    for name, (mark, value) in shown.items():
        console.print(styled((name + mark, "bold"), f" {value}"), soft_wrap=True)
    _say_marks([shown["method"][1], *(mark for mark, _ in shown.values())])
    log = Path(folder) / "logs" / file_of(row["trial_id"], ".txt")
    if log.is_file():
        console.print(log.read_text(errors="replace"), highlight=False)


def show_compared(compared: list[Compared], folder: Path, row: dict[str, Any]) -> bool:
    """Each column of a row that was run again beside the stored one; whether all are the same."""
    marks = TrialMarks(Store(folder))
    _say_first(marks.said(row))
    shown = {each.name: marks.measure(each.name, row) for each in compared}
    for each in compared:
        verdict = ("same", "green") if each.same else ("DIFFERS", "red")
        console.print(styled(verdict, f" {each.name}{shown[each.name]}: {each.stored} | {each.again}"))
    if told := legend([marks.name(row)]):
        console.print(styled((f"{marks.name(row)}: {told}", "dim")))
    _say_marks(shown.values())
    stands = all(each.same for each in compared)
    console.print("The row stands." if stands else "The row does not come out again on this machine.")
    return stands


def show_scores(scores: pa.Table, folder: Path) -> None:
    """What ``mubench score`` computed, and where it was written."""
    shown = [name for name in scores.column_names if scores[name].null_count < scores.num_rows]
    table, marks, there = plain_table(*shown), TrialMarks(Store(folder)), []
    rows = scores.slice(0, 60).to_pylist()
    _say_first(dict.fromkeys(line for row in rows for line in marks.said(row)))
    for row in rows:
        metric = row["metric"] if row["part"] == "value" else f"{row['metric']} {row['part']}"
        there += [name := marks.name(row), measure := marks.measure(metric, row)]
        cells = {each: _cell(row[each]) for each in shown} | {"method": _cell(name)}
        if row["value"] is not None:
            cells["value"] += measure
        table.add_row(*cells.values())
    console.print(table)
    _say_marks(there)
    if scores.num_rows > 60:
        console.print(f"... and {scores.num_rows - 60} more")
    console.print(f"Written to {Path(folder) / 'scores'}", soft_wrap=True)


def show_submissions(entries: dict[str, dict[str, Any]], page: Path) -> None:
    """What a leaderboard holds, and where its page is."""
    table = plain_table("group", "suite", "trials", "shared", "forget sets", "of these drawn anew")
    for name, entry in entries.items():
        counts = (entry[key] for key in ("suite", "trials", "shared", "forget_sets", "forget_sets_drawn_anew"))
        table.add_row(*map(flat, map(str, (name, *counts))))
    console.print(table)
    console.print(styled("Leaderboard: ", (str(page), "bold")), soft_wrap=True)


def show_findings(name: str) -> bool:
    """The findings of the conformance suite of what is called so; whether all are good."""
    from mubench_ray.conformance import check

    checked = check(name)
    for (kind, known), findings in checked.items():
        if len(checked) > 1:
            console.print(styled((f"{known} of the {kind}", "bold")))
        for finding in findings:
            good = ("ok", "green"), f"   {finding.name}"
            bad = ("FAIL", "red"), f" {finding.name}: {finding.detail}"
            console.print(styled(*(good if finding.ok else bad)), soft_wrap=True)
    return all(finding.ok for findings in checked.values() for finding in findings)
