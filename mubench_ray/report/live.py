"""A page of a suite while it runs, from the Arrow store alone: how far it is, how fast, what failed. Served on loopback, it renews itself."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mubench_ray.report.columns import shown_in
from mubench_ray.report.environment import environment
from mubench_ray.results.marks import Mark, TrialMarks, cell_words, legend, of_name, symbols
from mubench_ray.results.plans import of_plan
from mubench_ray.results.store import Store
from mubench_ray.status import STATUSES, is_usable

#: Seconds between two looks of an open page, trials that the rate is taken over, and rows that are listed.
EVERY, RATED, LISTED = 5, 200, 15
READ = ["trial_id", "configuration", "task", "model", "method", "ratio", "seed", "status", "error", "finished_at"]
READ += ["uses_validation", "training_seed"]
READ += [column.name for column in shown_in("live")]


def snapshot(root: str | Path) -> dict[str, Any]:
    """What the page shows, of the rows there are now; raises ResultsError for what is no results folder."""
    store = Store(root)
    manifest = store.check(must_exist=True)
    table = of_plan(store.read("trials"), store)
    found = table.select([name for name in READ if name in table.column_names]).to_pylist()
    rows = [dict.fromkeys(READ) | row for row in found]
    rows.sort(key=lambda row: row["finished_at"])
    counts = Counter(row["status"] for row in rows)
    methods: dict[str, Counter] = {}
    marks: dict[str, set[Mark]] = {}
    of_measures = TrialMarks(store)  # of the last report, where there is one
    for row in rows:
        row["at_edge"] = of_measures.at_edge(row)
        methods.setdefault(row["method"], Counter())[row["status"]] += 1
        marks.setdefault(row["method"], set()).update(of_name(row))
    recent = [row | {"name": row["method"] + symbols(of_name(row))} for row in rows[: -LISTED - 1 : -1]]
    for row in recent:
        row["marks"] = {column.name: of_measures.measure(column.name, row) for column in shown_in("live")}
    names = {name: name + symbols(marks[name]) for name in sorted(methods)}
    planned = max(int(manifest.get("trials") or 0), len(rows))
    pace = per_minute([row["finished_at"] for row in rows[-RATED:]])
    search = store.part("search")
    searched = search.check()
    return {
        "suite": manifest.get("suite") or Path(root).name,
        "done": len(rows),
        "planned": planned,
        "share": len(rows) / planned if planned else 0.0,
        "counts": {status: counts[status] for status in STATUSES if counts[status]},
        "per_minute": pace,
        "minutes_left": (planned - len(rows)) / pace if pace else None,
        "last": rows[-1]["finished_at"] if rows else None,
        "methods": {named: [methods[name][status] for status in STATUSES] for name, named in names.items()},
        "recent": recent,
        "first": cell_words(of_measures.verdicts.untold),
        "legend": legend([*names.values(), *(mark for row in recent for mark in row["marks"].values())]),
        "failures": [row for row in reversed(rows) if not is_usable(row)][:LISTED],
        "search": (len(search.finished()), searched.get("trials", 0)) if searched else None,
        "now": datetime.now(UTC),
        "statuses": STATUSES,
        "columns": shown_in("live"),
        "every": EVERY,
    }


def per_minute(moments: list[datetime]) -> float | None:
    """Trials a minute over the given ends; None for fewer than two."""
    span = (moments[-1] - moments[0]).total_seconds() if len(moments) > 1 else 0.0
    return 60 * (len(moments) - 1) / span if span > 0 else None


def render(root: str | Path) -> str:
    """The page as HTML."""
    return environment().get_template("live.html").render(snapshot(root))


def server(root: str | Path, port: int = 8080, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server of the page at ``/``, not yet started; port 0 takes a free one. Raises OSError where the port is taken."""
    lock = threading.Lock()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """The page, or 404 for any other path."""
            if self.path != "/":
                return self.send_error(404)
            with lock:  # many open tabs read the folder one after the other
                body = render(root).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    return ThreadingHTTPServer((host, port), Page)
