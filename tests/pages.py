"""The pages of docs/ that say how to add something: their files are taken from the page and run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from mubench_ray.conformance import check
from mubench_ray.registry import load_plugin


class Page:
    """A page whose first Python block is a file that adds something, as a plugin in ``folder``; its suite, where it has one, as ``suite``."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.text = path.read_text()
        blocks = re.findall(r"```(\w+)\n(.*?)```", self.text, re.DOTALL)
        name = re.search(r"`(my_\w+\.py)`, whole", self.text)[1]
        self.plugin = folder / name
        self.plugin.write_text(next(code for kind, code in blocks if kind == "python"))
        self.suite = next((yaml.safe_load(code) for kind, code in blocks if kind == "yaml"), None)
        #: For each thing that the page checks, what it says that `mubench check` prints.
        self.printed = [
            [line.removeprefix("ok").strip() for line in block.splitlines()]
            for block in re.findall(r"```\n(ok   .*?)```", self.text, re.DOTALL)
        ]

    def load(self) -> None:
        """Register what the file adds, as ``--plugin`` does."""
        load_plugin(self.plugin)


def conforms(kind: str, name: str) -> list[str]:
    """The names of the findings of the suite of its kind, all of them good."""
    findings = check(name)[kind, name]
    assert [finding for finding in findings if not finding.ok] == []
    return [finding.name for finding in findings]
