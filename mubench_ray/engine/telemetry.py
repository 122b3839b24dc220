"""What Prometheus sees of a run, through Ray's own metrics: scraped at every node's metrics port (`ray start --metrics-export-port`)."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from mubench_ray.engine.schedule import Progress

#: Upper edges of the histogram of seconds, from a toy to a large model's retrain.
SECONDS = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000]


class Telemetry:
    """Trials and artifacts ended by status, their seconds, and how many run and are still to run. Names start with ``ray_mubench_``."""

    def __init__(self) -> None:
        self._ended = Counter("mubench_nodes_ended", "Trials and artifacts that ended", ("kind", "status"))
        self._seconds = Histogram(
            "mubench_node_seconds", "Seconds a trial or artifact took in its worker", SECONDS, ("kind",)
        )
        self._running = Gauge("mubench_nodes_running", "Trials and artifacts that run now")
        self._left = Gauge("mubench_trials_left", "Trials that have no row yet")

    def ended(self, kind: str, status: str, seconds: float | None, progress: Progress) -> None:
        """A job has ended that makes such a kind of thing: ``trial``, ``retrain``, ..."""
        self._ended.inc(1.0, {"kind": kind, "status": status})
        if seconds is not None:
            self._seconds.observe(seconds, {"kind": kind})
        self._running.set(float(progress.running))
        self._left.set(float(max(0, progress.total - progress.done)))
