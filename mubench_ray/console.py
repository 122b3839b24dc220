"""What the command line shows: tables, the plan, live progress. Everything here only reads."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mubench_ray.errors import ResultsError
from mubench_ray.results.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from mubench_ray.engine.plan import Plan
    from mubench_ray.engine.schedule import Progress as Standing

console = Console()


def show_registry(kind: str) -> None:
    """The table of ``mubench list``."""
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    if kind == "tasks":
        from mubench_ray.tasks import TASKS

        _columns(table, "task", "modality", "kind", "sizes", "licence", "source")
        for name, task in TASKS:
            sizes = " + ".join(f"{size:,} {part}" for part, size in task.card.sizes.items())
            table.add_row(name, task.modality, task.kind, sizes, task.card.licence, task.card.source)
    elif kind == "models":
        from mubench_ray.models import MODELS

        _columns(table, "model", "family", "modality", "citation")
        for name, model in MODELS:
            table.add_row(name, model.family, model.modality, model.citation)
    elif kind == "methods":
        from mubench_ray.methods import METHODS

        _columns(table, "method", "title", "corrupts", "retains", "measured by", "parameters", "D_V", "hyperparameters", "cites")
        for name, method in METHODS:
            place = method.taxonomy
            defaults = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in method.defaults().items())
            uses = "uses" if method.uses_validation else ""
            table.add_row(name, method.title, place.corrupts, place.retains, place.measured_by, place.parameters, uses, defaults, method.cites)
    else:
        from mubench_ray.metrics import METRICS

        _columns(table, "metric", "better", "range", "what", "cites")
        for name, metric in METRICS:
            table.add_row(name, metric.direction, f"{metric.low:g} .. {metric.high:g}", metric.summary, metric.cites)
    console.print(table)


def _columns(table: Table, *names: str) -> None:
    for name in names:
        table.add_column(name, overflow="fold")


def show_plan(plan: Plan, trials: bool) -> None:
    """Counts, what is left out, and the estimated cost."""
    from mubench_ray.engine.estimate import estimate

    suite = plan.suite
    console.print(
        f"[bold]{suite.name}[/]: {len(plan.trials):,} trials, after {len(plan.originals):,} originals and {len(plan.retrains):,} retrains"
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    _columns(table, "task", "model", "method", "trials")
    for (task, model, method), count in Counter((t.task, t.model, t.method) for t in plan.trials.values()).items():
        table.add_row(task, model, method, f"{count:,}")
    console.print(table)
    for part in plan.left_out:
        console.print(f"[yellow]left out[/] {part.what} ({part.trials:,} trials): {part.reason}")
    console.print(estimate(plan))
    if trials:
        for trial_id, t in plan.trials.items():
            lr = "-" if t.lr is None else f"{t.lr:g}"
            hyper = json.dumps(t.hyperparameters)
            console.print(f"{trial_id} {t.task} {t.model} {t.method} {t.ratio:g}% seed {t.seed} lr {lr} {hyper}", soft_wrap=True, highlight=False)


@contextmanager
def live_progress(standing: Standing) -> Iterator[None]:
    """done / running / failed / truncated, trials a minute and time left, while the engine runs."""
    bar_where_it_fits = [BarColumn(bar_width=24)] if console.width >= 110 else []
    columns = (*bar_where_it_fits, TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, refresh_per_second=4) as bars:
        bar = bars.add_task("starting", total=standing.total)
        stop = threading.Event()
        began = time.monotonic()

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

        thread = threading.Thread(target=refresh, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            bars.update(bar, completed=standing.done, description=describe())


def show_outcome(folder: Path, page: Path) -> None:
    """The table at the end of a run, and where the page is."""
    from mubench_ray.report import summary_rows

    rows = summary_rows(folder)
    if rows:
        constant = [name for name in rows[0] if name.lower() in ("task", "model", "lr") and len({row[name] for row in rows}) == 1]
        title = ", ".join(f"{name.lower()} {rows[0][name]}" for name in constant)
        table = Table(box=None, header_style="bold", pad_edge=False, title=title or None, title_justify="left")
        for name in (shown := [name for name in rows[0] if name not in constant]):
            table.add_column(name, justify="left" if name.lower() in ("task", "model", "method") else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(_cell(row[name]) for name in shown))
        console.print(table)
    _show_failures(folder)
    console.print(f"Leaderboard: [bold]{page}[/]", soft_wrap=True)


def _cell(value: object) -> str:
    """A value as it is shown; where the terminal is narrow, a mean without its interval (the page has it)."""
    if value is None:
        return ""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if console.width >= 110 else text.split(" ±")[0].removesuffix(" (control)")


def show_status(folder: Path) -> None:
    """How far a run is."""
    store = Store(folder)
    manifest = store.check(must_exist=True)
    planned = manifest.get("trials", 0)
    if (folder / "plan.json").is_file():
        planned = len(json.loads((folder / "plan.json").read_text())["trials"])
    counts = Counter(store.read("trials", columns=["status"])["status"].to_pylist())
    done = sum(counts.values())
    summary = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    console.print(f"[bold]{manifest.get('suite', folder.name)}[/]: {done} of {planned} trials done" + (f" ({summary})" if summary else ""))
    _show_failures(folder)


def _show_failures(folder: Path, most: int = 10) -> None:
    rows = Store(folder).read("trials", columns=["trial_id", "method", "status", "error"]).to_pylist()
    bad = [row for row in rows if row["status"] not in ("ok", "truncated")]
    for reason, count in Counter((row["method"], row["status"], row["error"]) for row in bad).most_common(most):
        first = next(row["trial_id"] for row in bad if (row["method"], row["status"], row["error"]) == reason)
        console.print(f"[red]{reason[1]}[/] {reason[0]} x{count}: {reason[2]} (mubench logs {folder} {first})", soft_wrap=True)


def show_trial(folder: Path, trial_id: str) -> None:
    """One trial's row, and the traceback of its failure."""
    store = Store(folder)
    rows = [row for row in store.read("trials").to_pylist() if row["trial_id"].startswith(trial_id)]
    if len(rows) != 1:
        raise ResultsError(f"{folder}: {len(rows)} trials have an id that starts with {trial_id!r}.")
    for name, value in rows[0].items():
        if value is not None:
            console.print(f"[bold]{name}[/] {value}", highlight=False, soft_wrap=True)
    log = Path(folder) / "logs" / f"{rows[0]['trial_id']}.txt"
    if log.is_file():
        console.print(log.read_text(), markup=False, highlight=False)


def show_scores(scores: pa.Table, folder: Path) -> None:
    """What ``mubench score`` computed, and where it was written."""
    shown = [name for name in scores.column_names if scores[name].null_count < scores.num_rows]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in shown:
        table.add_column(name)
    for row in scores.select(shown).slice(0, 60).to_pylist():
        table.add_row(*(_cell(row[name]) for name in shown))
    console.print(table)
    if scores.num_rows > 60:
        console.print(f"... and {scores.num_rows - 60} more")
    console.print(f"Written to {Path(folder) / 'scores'}", soft_wrap=True)


def show_findings(method: str) -> bool:
    """The findings of the conformance suite; whether all are good."""
    from mubench_ray.conformance import check_method

    findings = check_method(method)
    for finding in findings:
        console.print(f"[green]ok[/]   {finding.name}" if finding.ok else f"[red]FAIL[/] {finding.name}: {finding.detail}")
    return all(finding.ok for finding in findings)
