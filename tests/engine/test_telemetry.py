"""What Prometheus is told of a run, scraped from a real Ray node."""

import socket
import subprocess
import sys

SCRIPT = """
import json, os, secrets, shutil, sys, tempfile, time, urllib.request
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0", "RAY_metrics_report_interval_ms": "500"}
import ray
from mubench_ray.engine.schedule import Schedule
from mubench_ray.engine.job import Job
from mubench_ray.engine.tune import NextJob
from tests.results.test_score import make_trial

port = int(sys.argv[1])
folder = tempfile.mkdtemp(prefix="mub-", dir="/tmp")
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _metrics_export_port=port, _temp_dir=folder)
things = {t.id: t for t in (make_trial("ft", 0), make_trial("ft", 1), make_trial("ft", 2))}
retrain = next(iter(things.values())).retrain
jobs = {name: Job("trial", trial) for name, trial in things.items()} | {retrain.id: Job("artifact", retrain)}
schedule = Schedule({name: (retrain.id,) for name in things}, 1, lambda *abandoned: None, is_artifact=retrain.id.__eq__)
searcher = NextJob(schedule, jobs.__getitem__)
for number, result in enumerate(
    [{"status": "ok", "time_this_iter_s": 2.0}, {"status": "ok", "time_this_iter_s": 0.2}, {"status": "diverged"}]
):
    assert isinstance(searcher.suggest(str(number)), dict)
    searcher.on_trial_complete(str(number), result)
until = time.monotonic() + 90
while time.monotonic() < until:
    time.sleep(0.5)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        continue
    lines = [line for line in text.splitlines() if line.startswith("ray_mubench_")]
    if len(lines) > 5:
        print("\\n".join(lines))
        break
ray.shutdown()
shutil.rmtree(folder, ignore_errors=True)
"""


def test_prometheus_reads_what_has_ended(tmp_path, repository):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(port)], cwd=repository, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("ray_mubench_")]

    def value(name: str, *labels: str) -> float:
        (line,) = [each for each in lines if each.startswith(f"{name}{{") and all(label in each for label in labels)]
        return float(line.rpartition(" ")[2])

    assert value("ray_mubench_nodes_ended_total", 'kind="trial"', 'status="ok"') == 1
    assert value("ray_mubench_nodes_ended_total", 'kind="trial"', 'status="diverged"') == 1
    assert value("ray_mubench_nodes_ended_total", 'kind="retrain"', 'status="ok"') == 1
    assert value("ray_mubench_node_seconds_bucket", 'kind="retrain"', 'le="3.0"') == 1
    assert value("ray_mubench_trials_left") == 1
