"""Where a row comes from: versions, commit, machine."""

from __future__ import annotations

import functools
import hashlib
import platform
import socket
import subprocess
from importlib import metadata
from operator import attrgetter
from pathlib import Path

#: Where this package lies, installed or not.
INSTALLED = Path(__file__).parent.parent
PACKAGES = (
    "mubench_ray",
    "torch",
    "transformers",
    "ray",
    "numpy",
    "scikit-learn",
    "pyarrow",
    "datasets",
    "peft",
    "timm",
    "torchvision",
)


#: What may take TF32 in place of float32 on CUDA, by the switch of ``torch.backends`` that says so.
TENSOR_FLOAT = {"convolutions": "cudnn.conv", "recurrent": "cudnn.rnn", "matmul": "cuda.matmul"}


def provenance() -> dict[str, str | None]:
    """Package versions, git commit (None outside a checkout), hash of the package's source, Python and host, and torch's switches of TF32 as they are."""
    switches = ", ".join(f"{name} {switch}" for name, switch in tensor_float_switches().items())
    return {**_made_by(), "fp32_on_cuda": switches}


def tensor_float_switches() -> dict[str, str]:
    """What this process takes on CUDA for float32, by what computes it: ``ieee``, ``tf32``, or ``none``, which is ``ieee``."""
    import torch

    return {name: attrgetter(switch)(torch.backends).fp32_precision for name, switch in TENSOR_FLOAT.items()}


@functools.cache
def _made_by() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        **versions,
        "git_commit": git_commit(),
        "source_sha256": source_hash(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
    }


@functools.cache
def git_commit() -> str | None:
    """Commit of the checkout that the package runs from, with ``+`` when it has uncommitted changes; None outside one.

    Only the package's own folder is asked about: git runs commands that the settings of a checkout name, and the current folder may be anybody's.
    """

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *arguments]
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)

    done = git("rev-parse", "HEAD")
    if done.returncode != 0:
        return None
    return done.stdout.strip() + ("+" if git("status", "--porcelain", "-uno").stdout.strip() else "")


@functools.cache
def source_hash() -> str:
    """SHA-256 over the package's Python files, so that a row names its code also where there is no git."""
    root = Path(__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(str(path.relative_to(root)).encode())
        total.update(path.read_bytes())
    return total.hexdigest()
