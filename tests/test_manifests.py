"""The Kubernetes manifest and the Slurm script of docs/: as far as they can be checked where neither runs."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
import yaml


def test_the_rayjob_is_one_cluster_whose_head_runs_no_trials(repository):
    manifest = yaml.safe_load((repository / "docs" / "kuberay-rayjob.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0" and cluster["authOptions"]["mode"] == "token"
    assert (
        manifest["spec"]["entrypoint"].startswith("mubench run ")
        and "--out /results/" in manifest["spec"]["entrypoint"]
    )
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == 0 < group["maxReplicas"]
        assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_is_valid_bash(repository):
    script = repository / "docs" / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    assert "RAY_AUTH_MODE=token" in script.read_text() and "ray stop" not in script.read_text()
