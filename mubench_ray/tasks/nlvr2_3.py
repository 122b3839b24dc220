"""NLVR2 with the head of three classes that MU-Bench's released code gives it."""

from __future__ import annotations

from dataclasses import replace

from mubench_ray.tasks.base import task
from mubench_ray.tasks.nlvr2 import NLVR2


@task("nlvr2_3", "nlvr2-3")
class NLVR2OfThree(NLVR2):
    """The pairs of ``nlvr2``, from the same files; no example is of the third class, which a network may predict and a random label may be."""

    card = replace(
        NLVR2.card, title="NLVR2 with a head of three classes", traps=f"No example is of class 2. {NLVR2.card.traps}"
    )
    classes = 3
    class_names = ("False", "True", "neither")
    empty_classes = 1
