"""The command line. Imports are late, so that ``mubench --help`` answers at once."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mubench_ray.errors import MubenchError, NothingRan, harmless

if TYPE_CHECKING:
    from mubench_ray.engine.schedule import Progress
    from mubench_ray.suite import Suite

app = typer.Typer(
    help="A Ray-distributed benchmark engine for machine unlearning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


leaderboard = typer.Typer(
    help="Put results folders of several groups together.", no_args_is_help=True, add_completion=False
)
app.add_typer(leaderboard, name="leaderboard")
kept = typer.Typer(help="The networks of a results folder.", no_args_is_help=True, add_completion=False)
app.add_typer(kept, name="artifacts")


def _here(where: str) -> Path:
    """A results folder on this machine: the one named, or an object store's brought up to date here."""
    from mubench_ray.results.storage import Place, is_remote

    return Place(where).mirror() if is_remote(where) else Path(where)


SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite file (YAML).", show_default=False)]
ResultsFolder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="A results folder that `mubench run` wrote, or its s3:// or gs:// address.",
        show_default=False,
        parser=_here,
    ),
]
#: For what looks at it again and again, or writes into it.
ResultsAddress = Annotated[
    str, typer.Argument(metavar="DIR", help="A results folder, or its s3:// or gs:// address.", show_default=False)
]
Plugins = Annotated[
    list[Path],
    typer.Option(
        "--plugin", metavar="FILE", help="A Python file that registers your own methods, tasks, models, metrics, ..."
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Where results go, a folder or s3://, gs://; default results/<suite name>."
    ),
]
SharedArtifacts = Annotated[
    str | None,
    typer.Option(
        "--artifacts", metavar="DIR", help="Originals and retrains shared between suites; default DIR/artifacts."
    ),
]
Methods = Annotated[
    list[str],
    typer.Option(
        "--method", metavar="NAME", help="Only these of the suite's methods, with its controls; may be repeated."
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed rows again.")]
TrialId = Annotated[str, typer.Argument(metavar="ID", help="A trial id, or the start of one.")]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Where the data of tasks lies, to draw forget sets anew; default $MUBENCH_DATA."
    ),
]


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]", help="tasks, models, methods, metrics, samplers or observations; without it, all."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Say all about this one, or list what fits, such as 's*'.")
    ] = None,
    plugin: Plugins = [],
) -> None:
    """List what is registered, a line each, or say all about one thing: `mubench list metrics u_lira`."""
    _load(plugin)
    from mubench_ray.console import show_registry

    show_registry(kind, name)


@app.command()
def plan(
    suite: SuiteFile,
    plugin: Plugins = [],
    trials: Annotated[bool, typer.Option(help="Print every trial with its id.")] = False,
    method: Methods = [],
) -> None:
    """Show what a suite resolves to: counts, what is left out and why, an estimate of the cost. Runs nothing."""
    from mubench_ray.console import show_plan
    from mubench_ray.engine.plan import make_plan

    show_plan(make_plan(_suite(suite, plugin, method)), trials)


@app.command()
def run(
    suite: SuiteFile,
    out: Out = None,
    address: Annotated[
        str | None, typer.Option(metavar="RAY", help="A running Ray cluster to join; without it, one is started here.")
    ] = None,
    artifacts: SharedArtifacts = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    retry_failed: RetryFailed = False,
    plugin: Plugins = [],
    method: Methods = [],
) -> None:
    """Run a suite, or what is missing of it, and write the report.

    Exit code 0: every trial has its result (a truncated one is what its budget gave). 1: some failed or were left out. 2: there is not one result: the suite
    cannot be run, no cluster answers, or all failed. 130: interrupted. The report decides nothing.
    """
    if dry_run:
        return plan(suite, plugin, method=method)
    from mubench_ray.console import console, live_progress, say_error, show_end, styled
    from mubench_ray.engine.run import run_suite

    standings: list[Progress] = []

    @contextmanager
    def watch(standing: Progress) -> Iterator[None]:
        standings.append(standing)
        with live_progress(standing):
            yield

    try:
        resolved = _suite(suite, plugin, method)
        console.print(styled((resolved.name, "bold"), ": starting"))
        done = run_suite(resolved, out, address, artifacts, retry_failed, watch)
    except MubenchError as error:
        if any(standing.done for standing in standings):
            raise
        raise NothingRan(str(error)) from error
    if done.already:
        console.print(f"{done.already} of {done.planned} trials had their row already.")
    try:
        _publish(done.out, failures=False)
    except BaseException as error:  # also a panic in Rust: the rows are written, whatever becomes of the report
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        say_error("The report could not be written", error, f"No row is lost: `mubench report {done.out}` makes it.")
    options = {"--out": out, "--address": address, "--artifacts": artifacts}
    named = [part for name, value in options.items() if value for part in (name, value)]
    named += [part for path in plugin for part in ("--plugin", str(path))]
    named += [part for name in method for part in ("--method", name)]
    show_end(done, shlex.join(["mubench", "run", str(suite), *named]))
    raise typer.Exit(done.exit_code if done.complete else 130)


@app.command("eval")
def eval_(
    suite: SuiteFile,
    model: Annotated[
        Path,
        typer.Option(
            "--model", metavar="F_U", help="The unlearned network: a file of weights (.pth, .safetensors) or a folder."
        ),
    ],
    forget: Annotated[
        Path,
        typer.Option(
            "--forget",
            metavar="LIST",
            help="What it was made to forget: numbers of training examples, one a line, or a mask.",
        ),
    ],
    out: Out = None,
    artifacts: SharedArtifacts = None,
    task: Annotated[str | None, typer.Option("--task", metavar="NAME", help="Of a suite with several tasks.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", metavar="NAME", help="Of a suite with several models.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The seed of the suite's original and retrain; default its first.")
    ] = None,
    plugin: Plugins = [],
) -> None:
    """Hold a network that was unlearned elsewhere against the original and the retrain of a suite; those that are missing are trained here and now.

    Its row is of the method `external`: its cost is not known, so it has no efficiency, no place on a frontier and no rank.
    """
    from mubench_ray.console import console
    from mubench_ray.engine.external import evaluate

    outcome, folder = evaluate(_suite(suite, plugin), model, forget, out, artifacts, task, network, seed)
    row = outcome.row
    console.print(
        f"{row['trial_id']}: {row['task']}, {row['model']}, {row['forget_size']:,} examples forgotten", soft_wrap=True
    )
    _publish(folder)


@app.command("submit")
def submit_(
    suite: SuiteFile,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Where results go: s3://, gs://, or a folder that every node mounts."
        ),
    ],
    address: Annotated[
        str, typer.Option(metavar="URL", help="The dashboard of a running Ray cluster.")
    ] = "http://127.0.0.1:8265",
    artifacts: SharedArtifacts = None,
    retry_failed: RetryFailed = False,
    python: Annotated[str, typer.Option(help="The Python on the head node that has the dependencies.")] = "python",
    follow: Annotated[bool, typer.Option(help="Follow the log until the job ends.")] = True,
    plugin: Plugins = [],
) -> None:
    """Run a suite as a job of a Ray cluster. Submitted again while it runs, its log is followed; afterwards, what is missing is run.

    The exit code is that of the run that was followed (`mubench run --help`); 2 also where no job could be submitted, 130 where it is no longer followed.
    """
    import yaml

    from mubench_ray.engine.submit import submit

    try:
        resolved = _suite(suite, plugin)
        job = submit(resolved, yaml.safe_load(suite.read_text()), address, out, artifacts, retry_failed, python)
    except MubenchError as error:
        raise NothingRan(str(error)) from error
    typer.echo(f"Job {job.id} {'runs already' if job.joined else 'submitted'}. Its dashboard: {address}")
    if not follow:
        return
    try:
        ended = job.follow(lambda text: typer.echo(harmless(text.replace("\r", "\n")), nl=False))
    except KeyboardInterrupt:
        typer.echo(
            f"\nThe job goes on without you. The same command follows it again; `ray job stop {job.id} --address {address}` ends it."
        )
        raise typer.Exit(130) from None
    if ended != "SUCCEEDED":
        told = f"Job {job.id} ended as {ended}: the end of its log says why. The same command runs what is missing, with --retry-failed also what failed."
        typer.secho(told, fg="red", err=True)
        # None where its process never ran, negative where a signal ended it.
        raise typer.Exit(max(1, job.client.get_job_info(job.id).driver_exit_code or 1))
    typer.echo(f"Job {job.id} succeeded. `mubench report {out}` brings the report here.")


@app.command()
def status(folder: ResultsFolder) -> None:
    """Say how far a run is, and what failed."""
    from mubench_ray.console import show_status

    show_status(folder)


@app.command()
def watch(results: ResultsAddress, port: int = 8080, host: str = "127.0.0.1") -> None:
    """Serve a page of a running suite that renews itself."""
    from mubench_ray.report.live import render, server

    render(results)
    try:
        page = server(results, port, host)
    except OSError as error:
        raise MubenchError(
            f"Port {port} of {host} cannot be served ({error.strerror}); take another with --port."
        ) from error
    typer.echo(f"http://{host}:{page.server_port} (Ctrl-C ends it)")
    with page:
        page.serve_forever()


@app.command()
def report(
    results: ResultsAddress,
    sync_mlflow: Annotated[
        bool, typer.Option("--sync-mlflow", help="Also copy rows to MLflow that it has not yet.")
    ] = False,
    mlflow_uri: Annotated[
        str | None, typer.Option("--mlflow-uri", help="MLflow tracking URI; default sqlite in DIR.")
    ] = None,
) -> None:
    """Write the leaderboard page, the tables and the figures from a results folder."""
    from mubench_ray.console import console

    folder = _publish(results)
    if sync_mlflow:
        from mubench_ray.results.mlflow_sink import MlflowSink

        console.print(f"MLflow: {MlflowSink(folder, mlflow_uri).sync()} runs added.")


@app.command()
def score(
    folder: ResultsFolder,
    metric: Annotated[str, typer.Option("--metric", "-m", help="A metric; `mubench list metrics` names them.")],
    plugin: Plugins = [],
    intervals: Annotated[
        bool, typer.Option(help="Of a metric of many trials, which is computed up to ten times more for them.")
    ] = True,
) -> None:
    """Compute a metric from the stored examples of every trial, without training anything."""
    _load(plugin)
    from mubench_ray.console import show_scores
    from mubench_ray.results.controls import hold_to_controls
    from mubench_ray.results.plugins import plugins_told
    from mubench_ray.results.score import score as compute
    from mubench_ray.results.store import Store

    with plugins_told(folder):
        scores = compute(folder, metric, with_intervals=intervals)
    hold_to_controls(Store(folder))
    show_scores(scores, folder)


@app.command()
def ui(folder: ResultsFolder, port: int = 5000, host: str = "127.0.0.1") -> None:
    """Open the MLflow UI on a results folder."""
    from mubench_ray.results.mlflow_sink import ui_command
    from mubench_ray.results.store import Store

    Store(folder).check(must_exist=True)
    command = ui_command(folder, port, host)
    typer.echo(f"MLflow UI at http://{host}:{port} (Ctrl-C ends it)")
    os.execv(command[0], command)


@app.command()
def logs(folder: ResultsFolder, trial_id: TrialId) -> None:
    """Print what is known of one trial: its row and the traceback of its failure."""
    from mubench_ray.console import show_trial

    show_trial(folder, trial_id)


@app.command()
def tuned(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="A results folder whose search has ended.", parser=_here),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A file of settings; what it has of others stays."),
    ] = None,
    drop_stale: Annotated[
        bool, typer.Option("--drop-stale", help="Take settings out of FILE that a version has made stale.")
    ] = False,
    plugin: Plugins = [],
) -> None:
    """Write the settings that a search chose to FILE, for `tuned: FILE` in a suite; without DIR, list those of FILE, or that come with the package."""
    _load(plugin)
    from mubench_ray.console import show_settings
    from mubench_ray.tuned.collect import update

    if out is None and (folder is not None or drop_stale):
        raise MubenchError("Say --out FILE: the file that the settings are written to.")
    if out is not None and (folder is not None or drop_stale):
        for line in update(out, folder, drop_stale):
            typer.echo(line)
    if not show_settings(out):
        raise typer.Exit(1)


@app.command()
def rerun(folder: ResultsFolder, trial_id: TrialId, plugin: Plugins = []) -> None:
    """Run one trial of a results folder again, here and now, and say whether the same numbers come out."""
    _load(plugin)
    from mubench_ray.console import find_row, show_compared
    from mubench_ray.trials.rerun import rerun_trial

    row = find_row(folder, trial_id)
    if not show_compared(rerun_trial(folder, row), folder, row):
        raise typer.Exit(1)


@app.command()
def check(name: Annotated[str, typer.Argument(metavar="NAME")], plugin: Plugins = []) -> None:
    """Hold a method, task, model, metric, sampler or observation to the conformance suite of its kind."""
    _load(plugin)
    from mubench_ray.console import show_findings

    if not show_findings(name):
        raise typer.Exit(1)


@app.command()
def doctor(
    address: Annotated[str | None, typer.Option(metavar="RAY", help="A running Ray cluster to look at.")] = None,
) -> None:
    """Say what is installed, what Ray sees, what would fail, and how to mend it."""
    from mubench_ray.doctor import diagnose

    if not diagnose(address):
        raise typer.Exit(1)


@kept.command()
def export(
    folder: ResultsFolder,
    name: Annotated[
        str, typer.Argument(metavar="ID", help="An artifact (original-..., retrain-...), or a trial kept by keep: all.")
    ],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new folder, which original: takes.")],
    artifacts: SharedArtifacts = None,
    plugin: Plugins = [],
) -> None:
    """Write a network as a checkpoint: weights, config, tokenizer or processor, classes in the task's order."""
    _load(plugin)
    from mubench_ray.console import find_row
    from mubench_ray.trials.export import export as write

    row = None if re.match(r"(original|retrain|scoring|forget-only|validation-only)-", name) else find_row(folder, name)
    typer.echo(f"Written: {write(folder, name, to, artifacts, row)}")


@leaderboard.command()
def pack(folder: ResultsFolder) -> None:
    """Write the hashes of a finished results folder, which makes it a submission."""
    from mubench_ray.results.submission import pack as write_hashes

    typer.echo(f"Written: {write_hashes(folder)}")


@leaderboard.command()
def submit(
    folder: ResultsFolder,
    to: Annotated[Path, typer.Option("--to", metavar="BOARD", help="The leaderboard; made if there is none.")],
    name: Annotated[str | None, typer.Option(help="The group's name; default the folder's.")] = None,
    data: DataFolder = None,
    plugin: Plugins = [],
) -> None:
    """Check a packed results folder and add it to a leaderboard, or refuse it with a line for every fault."""
    _load(plugin)
    from mubench_ray.console import show_submissions
    from mubench_ray.results.leaderboard import entries
    from mubench_ray.results.leaderboard import submit as add
    from mubench_ray.results.store import Store

    add(folder, to, name, data)
    show_submissions(entries(Store(to)), _report(to))


@leaderboard.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Packed results folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="BOARD", help="The leaderboard to make.")],
    data: DataFolder = None,
    plugin: Plugins = [],
) -> None:
    """Check packed results folders and make a leaderboard of all of them, or of none."""
    _load(plugin)
    from mubench_ray.console import show_submissions
    from mubench_ray.results.leaderboard import merge as make

    show_submissions(make(list(folders), out, data), _report(out))


def _publish(where: str, failures: bool = True) -> Path:
    """Write the report and show it, with what failed unless ``failures`` are told elsewhere; into an object store it is copied. Returns the folder on this
    machine."""
    from mubench_ray.console import console, show_outcome
    from mubench_ray.results.storage import Place

    place = Place(where)
    folder = place.mirror()
    show_outcome(folder, _report(folder), failures)
    if place.remote:
        place.write("controls.json", (folder / "controls.json").read_bytes())
        place.publish("report")
        console.print(f"The report is in {place}/report too; MLflow's database is {folder}/mlflow.db.", soft_wrap=True)
    return folder


def _report(folder: Path) -> Path:
    """Hold every metric to its controls, then write the page, which marks those that fail."""
    import warnings

    from mubench_ray.console import console, styled
    from mubench_ray.report import NotDrawn, write_report
    from mubench_ray.results.controls import hold_to_controls
    from mubench_ray.results.store import Store

    for reason in hold_to_controls(Store(folder)):
        console.print(styled((reason, "yellow")), soft_wrap=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", NotDrawn)
        page = write_report(folder)
    for warning in told:
        console.print(styled((str(warning.message), "yellow")), soft_wrap=True)
    return page


def _load(plugins: list[Path]) -> None:
    from mubench_ray.registry import load_plugin

    for path in plugins:
        load_plugin(path)


def _suite(path: Path, plugins: list[Path], methods: Sequence[str] = ()) -> Suite:
    """The suite of a file, with the plugins that the command names, too; of its methods only the controls and those that are named, if any are."""
    _load(plugins)
    from mubench_ray.suite import load_suite, only

    suite = only(load_suite(path), methods)
    named = [str(Path(plugin).resolve()) for plugin in [*suite.plugins, *plugins]]
    return suite.model_copy(update={"plugins": list(dict.fromkeys(named))})


def main() -> None:
    """Entry point: errors meant for people are one line, without a traceback (MUBENCH_TRACEBACK=1 shows it)."""
    try:
        app()
    except MubenchError as error:
        if os.environ.get("MUBENCH_TRACEBACK"):
            raise
        typer.secho(harmless(str(error)), fg="red", err=True)
        sys.exit(2 if isinstance(error, NothingRan) else 1)
    except ImportError as error:
        package = (error.name or "mubench_ray").split(".")[0]
        if os.environ.get("MUBENCH_TRACEBACK") or package.startswith("mubench_ray"):
            raise
        told = f"{error}: a package that this needs is missing or damaged; `pip install {package}` may mend it, `mubench doctor` says more."
        typer.secho(harmless(told), fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("Interrupted; the same command goes on.", fg="yellow", err=True)
        sys.exit(130)
