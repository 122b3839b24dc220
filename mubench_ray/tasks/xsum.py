"""XSum: one-sentence summaries of BBC articles, the shifted test set of dialogue summarisation."""

from __future__ import annotations

import json
from pathlib import Path

from mubench_ray.errors import DataError
from mubench_ray.tasks.files import data_places, read_text

SPLITS = "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json"
ARTICLES = "bbc-summary-data"
#: Articles that are read: the first of the official test list's 11,334.
TAKEN = 1000
#: Lines of the page around an article, which the corpus' own preparation drops.
AROUND = frozenset(
    """Share this with
Email
Facebook
Messenger
Twitter
Pinterest
WhatsApp
Linkedin
LinkedIn
Copy this link
These are external links and will open in a new window""".splitlines()
)


def xsum(data_dir: Path | None) -> list[tuple[str, str]]:
    """(article, summary) of the first TAKEN articles of XSum's test list (Narayan, Cohen & Lapata 2018, arXiv 1808.08745), or nothing where it is
    not at hand; raises DataError naming a file that is missing or malformed."""
    for place in data_places(data_dir, "xsum", "XSum"):
        if (place / SPLITS).is_file():
            return [read_article(place / ARTICLES / f"{name}.summary") for name in _test_list(place / SPLITS)]
    return []


def _test_list(path: Path) -> list[str]:
    try:
        names = [str(name) for name in json.loads(read_text(path))["test"][:TAKEN]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected an object with a list test ({type(error).__name__}: {error}).") from error
    for name in names:
        if not name.isdecimal():
            raise DataError(f"{path}: {name!r} is not the number of an article.")
    return names


def read_article(path: Path) -> tuple[str, str]:
    """The body and the first sentence, which is the summary, of a file with sections ``[SN]NAME[SN]``; raises DataError naming it."""
    lines = [line for line in read_text(path).splitlines() if line.strip() and line.strip() not in AROUND]
    parts = "\n".join(lines).split("[SN]")
    sections = dict(zip(parts[1::2], parts[2::2]))
    try:
        return sections["RESTBODY"].strip(), sections["FIRST-SENTENCE"].strip()
    except KeyError as error:
        raise DataError(f"{path}: has no section [SN]{error.args[0]}[SN].") from error
