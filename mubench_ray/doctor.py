"""What is installed, what Ray sees, what would fail and how to mend it."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from mubench_ray.console import console, styled
from mubench_ray.errors import MubenchError

PACKAGES = ("torch", "ray", "transformers", "datasets", "pyarrow", "mlflow", "scikit-learn", "peft", "altair")


def diagnose(address: str | None) -> bool:
    """Print one line a finding; returns whether a suite could run."""
    findings = [*packages(), *torchvision(), *accelerators(), *space(), *ray_cluster(address)]
    for good, text in findings:
        console.print(styled(("ok  ", "green") if good else ("FAIL", "red"), f" {text}"), soft_wrap=True)
    return all(good for good, _ in findings)


def packages() -> list[tuple[bool, str]]:
    """Versions of what a run needs."""
    found = []
    for name in PACKAGES:
        try:
            found.append((True, f"{name} {metadata.version(name)}"))
        except metadata.PackageNotFoundError:
            found.append((False, f"{name} is not installed: pip install . brings it"))
    return found


def torchvision() -> list[tuple[bool, str]]:
    """An installed torchvision that cannot load breaks ``import transformers``."""
    for name in ("torchvision", "torchaudio"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            text = f"{name} {version} is installed but cannot load ({str(error).splitlines()[0]}); transformers fails with it: pip uninstall {name}"
            return [(False, text)]
    return [(True, "nothing that breaks transformers")]


def accelerators() -> list[tuple[bool, str]]:
    """What torch sees."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return [(True, f"torch sees {len(names)} GPU: {', '.join(names)}")]
    return [(True, "torch sees no GPU; suites with gpus: 0 run on the CPU")]


def space() -> list[tuple[bool, str]]:
    """Disk and the temporary folder."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    mend = "" if free > 2 else ": too little, artifacts and Ray need a few"
    found = [(free > 2, f"{free:.0f} GiB free in {Path.cwd()}{mend}")]
    folder = os.environ.get("RAY_TMPDIR", "/tmp")
    try:
        with tempfile.TemporaryDirectory(dir=folder):
            pass
        short = len(folder) <= 60
        mend = "" if short else ": too long for Ray's sockets (107 characters in all); set RAY_TMPDIR to a short path"
        found.append((short, f"{folder} for Ray's sockets and logs{mend}"))
    except OSError as error:
        found.append((False, f"{folder} cannot be written ({error.strerror}); set RAY_TMPDIR to a folder that can"))
    return found


def ray_cluster(address: str | None) -> list[tuple[bool, str]]:
    """Start or join a cluster and say what it has."""
    from mubench_ray.engine.cluster import cluster

    try:
        with cluster(address) as has:
            where, mode = f"at {address}" if address else "started here", os.environ["RAY_AUTH_MODE"]
            open_to_all = "without a token: whoever reaches its ports runs commands"
            fence = open_to_all if mode == "disabled" else f"asks for a {mode}"
            return [(True, f"Ray {where}: {has.get('CPU', 0):g} CPU, {has.get('GPU', 0):g} GPU; {fence}")]
    except MubenchError as error:
        return [(False, str(error))]
