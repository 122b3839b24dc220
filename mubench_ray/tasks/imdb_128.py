"""IMDB as MU-Bench's released code reads it: reviews cut to 128 tokens."""

from __future__ import annotations

from dataclasses import replace

from mubench_ray.tasks.base import task
from mubench_ray.tasks.imdb import IMDB


@task("imdb_128", "imdb-128")
class IMDB128(IMDB):
    """The reviews of ``imdb``, from the same folders, cut to 128 tokens in place of 256."""

    card = replace(
        IMDB.card,
        title="Large Movie Review Dataset v1.0, 128 tokens",
        traps="As imdb's, but that reviews are cut to 128 tokens.",
    )
    max_length = 128
