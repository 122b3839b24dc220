"""Golden rows: what every method scores on digits, as data/golden_rows.json keeps it. An outcome that moves moves its version, and is recorded anew:

    python tests/trials/test_golden_rows.py tests/data/golden_rows.json

A row is found by the id of its trial, which versions are part of: a raised version is a row that is not recorded, and an outcome that moved
without one is a row that differs. The kernels are pinned by PINNED, in a process of their own. Where torch or the processor is another than when
the rows were recorded, rounding is too, and training makes it larger: scores may then differ by TOLERANCE (kernels without AVX2: by .008).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "data" / "golden_rows.json"
#: The same kernels on every processor that has AVX2.
PINNED = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "1"}
KEY = ("test_accuracy", "test_loss", "forget_loss", "retain_loss", "indisc", "retention_deviation", "flos")
#: Of a score in [0, 1], and of a loss or a deviation relative to 1 and itself.
TOLERANCE = 0.05
SUITE = {
    "name": "golden", "tasks": {"name": "digits", "subset": 300}, "models": "cnn-small", "training": {"epochs": 4},
    "ratios": 10, "seeds": [1, 2], "lrs": 1e-3,
}  # fmt: skip

#: Of those that a retrain's budget stops before they move a weight, with a larger one.
DEAR = {"methods": ["ff"], "budget": {"flos": 20}}


def record() -> dict:
    """Run every method of the package, without Ray."""
    import torch

    from mubench_ray.engine.plan import make_plan
    from mubench_ray.methods import METHODS
    from mubench_ray.suite import make_suite
    from mubench_ray.trials.artifacts import ArtifactStore
    from mubench_ray.trials.run_trial import prepare_network_process, run_trial

    prepare_network_process()
    torch.set_num_threads(1)
    plan = make_plan(make_suite({**SUITE, "methods": METHODS.names()}))
    trials = plan.trials | make_plan(make_suite({**SUITE, **DEAR})).trials
    rows = {}
    with tempfile.TemporaryDirectory() as artifacts:
        for trial in trials.values():
            row = run_trial(trial, ArtifactStore(artifacts)).row
            rows[trial.id] = {"method": trial.method, "seed": trial.seed, "status": row["status"]} | {
                n: row.get(n) for n in KEY
            }
    known = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), "pinned": PINNED}
    left_out = sorted({part.what.rpartition(" ")[2] for part in plan.left_out})
    return {"recorded with": known, "left out": left_out, "rows": rows}


def in_a_process_of_its_own() -> dict:
    found = subprocess.run(
        [sys.executable, __file__], env={**os.environ, **PINNED}, capture_output=True, text=True, timeout=900
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def now() -> dict:
    return in_a_process_of_its_own()


def test_every_method_has_its_golden_rows(now):
    golden = json.loads(GOLDEN.read_text())
    assert golden["rows"].keys() == now["rows"].keys(), "a version moved, or a method came: record the rows anew"
    assert golden["left out"] == now["left out"]


def test_no_outcome_moves_without_its_version(now):
    golden = json.loads(GOLDEN.read_text())
    exact = golden["recorded with"] == now["recorded with"]
    moved = []
    for name, row in golden["rows"].items():
        for key, stored in row.items():
            again = now["rows"].get(name, {}).get(key)
            same = again == stored
            if not exact and isinstance(stored, float) and isinstance(again, float) and key != "flos":
                same = abs(again - stored) <= TOLERANCE * max(1.0, abs(stored))
            if not same:
                moved.append(f"{row['method']} seed {row['seed']}: {key} {stored} -> {again}")
    assert moved == [], (
        f"{'to the last digit' if exact else 'within the tolerance'}; raise the version of what moved them"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(in_a_process_of_its_own(), indent=1) + "\n")
    else:
        print(json.dumps(record()))
