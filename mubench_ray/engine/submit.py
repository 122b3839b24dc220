"""Send a suite to a running Ray cluster as a job, follow it, and find it again: the second submit of a suite joins the first one."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

import mubench_ray
from mubench_ray.engine.cluster import authenticate, prepare_environment, to_join
from mubench_ray.errors import MubenchError
from mubench_ray.results.storage import is_remote, shown
from mubench_ray.suite import Suite, Tuned

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

#: Seconds between two tries to follow a job whose log broke off.
AGAIN = 2.0
#: What of a checkout no node needs.
LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


@dataclass(frozen=True)
class Submitted:
    """A job on a cluster; ``joined`` says that it ran already."""

    id: str
    joined: bool
    client: JobSubmissionClient

    def status(self) -> str:
        """``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``."""
        return str(self.client.get_job_status(self.id).value)

    def follow(self, say: Any) -> str:
        """Give the job's log to ``say`` piece by piece until it ends; returns its last status."""
        told = 0

        async def tail() -> None:
            nonlocal told
            seen = 0
            async for text in self.client.tail_job_logs(self.id):
                # A log that broke off is read again from its beginning.
                fresh = text[max(0, told - seen) :]
                seen += len(text)
                if fresh:
                    say(fresh)
                    told = seen

        while True:
            try:
                asyncio.run(tail())
            except (RuntimeError, OSError) as error:
                say(f"[the log broke off: {' '.join(str(error).split())[:120]}]\n")
            if (status := self.status()) in ("SUCCEEDED", "FAILED", "STOPPED"):
                return status
            time.sleep(AGAIN)


def submit(
    suite: Suite,
    content: dict[str, Any],
    address: str,
    out: str,
    artifacts: str | None = None,
    retry_failed: bool = False,
    python: str = "python",
) -> Submitted:
    """Start the suite as a job of the cluster whose dashboard is at ``address``, or join the job that already runs it into the same ``out``.

    ``content`` is the suite file as it was read. This package, the suite and its plugins travel in the job's working folder; data, results and artifacts
    never do. Raises MubenchError where the cluster does not answer or refuses, or a node could not reach ``out``.
    """
    for name, folder in (("--out", out), ("--artifacts", artifacts)):
        if folder and not is_remote(folder) and not Path(folder).is_absolute():
            raise MubenchError(
                f"{name} {folder}: the job runs on other machines: name a folder by its whole path on storage that every node mounts, or s3://, gs://."
            )
    client = connect(address)
    base = job_name(suite, out)
    jobs = [job for job in client.list_jobs() if (job.submission_id or "").startswith(f"{base}-")]
    for job in jobs:
        if job.status.value in ("PENDING", "RUNNING"):
            return Submitted(str(job.submission_id), True, client)
    command = [python, "-m", "mubench_ray", "run", "suite.yaml", "--address", "auto", "--out", out]
    command += ["--artifacts", artifacts] if artifacts else []
    command += ["--retry-failed"] if retry_failed else []
    # Ray runs a job once: what was submitted before under this name has ended, and this one goes on from its rows.
    name = f"{base}-{1 + len(jobs)}"
    with working_folder(suite, content) as folder:
        try:
            client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=name,
                runtime_env={"working_dir": folder, "env_vars": {"RAY_AUTH_MODE": os.environ["RAY_AUTH_MODE"]}},
                metadata={"suite": suite.name, "out": shown(out)},
            )
        except RuntimeError as error:
            raise MubenchError(
                f"The cluster at {address} refuses the job: {' '.join(str(error).split())[:300]}"
            ) from error
    return Submitted(name, False, client)


def connect(address: str) -> JobSubmissionClient:
    """A client of the cluster's jobs; raises MubenchError where nobody answers, or not to this token."""
    prepare_environment()
    authenticate(to_join())
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
        mode = os.environ["RAY_AUTH_MODE"]
        raise MubenchError(
            f"No Ray jobs at {address} with RAY_AUTH_MODE={mode}: {' '.join(str(error).split())[:300]} "
            "The dashboard's address is meant (port 8265, over an SSH tunnel where it listens on the head alone); "
            "RAY_AUTH_MODE and RAY_AUTH_TOKEN are as on the head."
        ) from error


def job_name(suite: Suite, out: str) -> str:
    """The same for the same suite into the same place."""
    what = suite.model_dump_json(exclude={"plugins"}) + shown(out)
    return f"mubench-{suite.name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"


@contextmanager
def working_folder(suite: Suite, content: dict[str, Any]) -> Iterator[str]:
    """A temporary folder with what a job needs: the package, ``suite.yaml``, ``plugins/``."""
    with tempfile.TemporaryDirectory(prefix="mubench-job-") as folder:
        top = Path(folder)
        shutil.copytree(Path(mubench_ray.__file__).parent, top / "mubench_ray", ignore=LEFT_BEHIND)
        names = [Path(plugin).name for plugin in suite.plugins]
        if len(set(names)) < len(names):
            raise MubenchError(
                f"Two plugins have the same file name: {', '.join(suite.plugins)}; give them different ones."
            )
        plugins = []
        for plugin in suite.plugins:
            (top / "plugins").mkdir(exist_ok=True)
            shutil.copy(plugin, top / "plugins")
            plugins.append(f"plugins/{Path(plugin).name}")
        content = {**content, "plugins": plugins, **_settings_of(suite, content, top)}
        (top / "suite.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        yield folder


def _settings_of(suite: Suite, content: dict[str, Any], top: Path) -> dict[str, Any]:
    """The parts of the suite that name files of tuned settings, naming the copies of these that travel along."""
    number = itertools.count()

    def travelling(said: Tuned | Literal[False] | None) -> dict[str, Any]:
        copies = []
        for file in said.files if said else ():
            (top / "tuned").mkdir(exist_ok=True)
            copies.append(f"tuned/{next(number)}-{Path(file).name}")
            shutil.copy(file, top / copies[-1])
        return {"tuned": {**said.model_dump(), "files": copies}} if said and copies else {}

    found = travelling(suite.tuned)
    if any(entry.tuned and entry.tuned.files for entry in suite.methods):
        given = content["methods"] if isinstance(content["methods"], list) else [content["methods"]]
        named = [{"name": each} if isinstance(each, str) else each for each in given]
        found["methods"] = [each | travelling(entry.tuned) for each, entry in zip(named, suite.methods, strict=True)]
    return found
