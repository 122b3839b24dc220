"""Several trials on one device: who shares, what the row says of it, and a second chance alone for one that ran out of memory."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import yaml

from mubench_ray.engine.tune import whole_device
from mubench_ray.engine.worker import Worker
from mubench_ray.results.observations import load_results
from mubench_ray.suite import Resources
from tests.conftest import outcome_columns
from tests.engine.processes import finish

PLUGIN = '''
import ray, torch
from mubench_ray.methods import Method, method

class Needy(Method):
    """Needs the memory of all cores of the machine."""
    share = 1.0
    def phases(self, ctx):
        mine = ray.get_runtime_context().get_assigned_resources()["CPU"]
        if mine < self.share * ray.cluster_resources()["CPU"]:
            raise torch.OutOfMemoryError("beside others")
        return []

@method("needy", title="Needy", cites="a test")
class NeedsAll(Needy):
    """Fits a machine."""

@method("too_needy", title="Too needy", cites="a test")
class NeedsMore(Needy):
    """Fits no machine."""
    share = 2.0
'''

WORKER = Worker(
    continued=frozenset(), out="x", artifacts="x", data_dir=None, plugins=(), device="cpu", concurrency=8, threads=1,
)  # fmt: skip


@pytest.mark.parametrize(("gpus", "tenants"), [(0, 8), (0.25, 4), (0.1, 8), (0.34, 2), (1, 1), (2, 1)])
def test_who_shares_a_device(gpus, tenants):
    """On GPUs those of one device, not those of the cluster; on CPUs all share the memory."""
    assert replace(WORKER, gpus=gpus).tenants == tenants


def test_a_whole_gpu_is_asked_for():
    assert whole_device(Resources(cpus=2, gpus=0.25)) == {"CPU": 2, "GPU": 1.0}


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_out_of_memory_is_tried_once_more_alone(tiny, tmp_path):
    plugin = tmp_path / "needy_methods.py"
    plugin.write_text(PLUGIN)
    suite = tmp_path / "suite.yaml"
    methods = ["original", "needy", "too_needy", "neggrad"]
    suite.write_text(yaml.safe_dump({**tiny, "methods": methods, "ratios": 5, "plugins": [str(plugin)]}))
    finish("run", suite, "--out", tmp_path / "out", expect=1)
    rows = {row["method"]: row for row in load_results(tmp_path / "out").to_pylist()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "original": "ok", "neggrad": "ok", "needy": "ok", "too_needy": "out_of_memory",
    }  # fmt: skip
    assert rows["needy"]["concurrency"] == rows["too_needy"]["concurrency"] == 1
    assert rows["neggrad"]["concurrency"] == os.cpu_count()
    assert "also with the device to itself" in rows["too_needy"]["error"]


@pytest.mark.slow
def test_packed_trials_have_the_numbers_of_single_ones(tiny, tmp_path):
    """Two trials on every core, against one at a time."""
    changes = {**tiny, "methods": ["original", "neggrad", {"name": "scrub", "epochs": 1, "msteps": 1}], "ratios": 5}
    for name, resources in (("packed", {"cpus": 0.5}), ("single", {"concurrency": 1})):
        suite = tmp_path / f"{name}.yaml"
        suite.write_text(yaml.safe_dump({**changes, "resources": resources}))
        finish("run", suite, "--out", tmp_path / name)
    packed, single = (load_results(tmp_path / name) for name in ("packed", "single"))
    assert outcome_columns(packed) == outcome_columns(single)
    assert set(packed["concurrency"].to_pylist()) == {2 * os.cpu_count()} and set(
        single["concurrency"].to_pylist()
    ) == {1}
