"""Which facts a biography states, as far as its words show: names, numbers and years."""

from __future__ import annotations

import re

#: Words with a capital that name nothing by themselves.
PLAIN = frozenset(
    re.findall(
        r"\w+",
        """a an and as at but by for from he her his in is it its of on or she the their they this to was were who with after before during since when
        while born question answer also both however although there these those many most other""",
    )
)
WORD = re.compile(r"[^\W\d_][\w'’.-]*[^\W_]|[^\W\d_]|\d[\d,.]*\d|\d")


def facts(text: str, known: str = "") -> set[str]:
    """Numbers, years and capitalised words of a text, lower-cased, without common words and without what ``known`` (the prompt) says already."""
    given = {word.lower() for word in WORD.findall(known)}
    found = {word.lower() for word in WORD.findall(text) if word[0].isupper() or word[0].isdigit()}
    return found - PLAIN - given


def factual_overlap(generated: list[str], references: list[str], prompts: list[str]) -> list[float]:
    """Share of each reference's facts that the generated text states too, in [0, 1]; NaN for a reference without any.

    FActScore has a language model split a text into statements and look each one up; this needs neither, and cannot see a fact told in other words or
    a name put into a wrong sentence.
    """
    scores = []
    for text, reference, prompt in zip(generated, references, prompts, strict=True):
        wanted = facts(reference, prompt)
        scores.append(len(wanted & facts(text, prompt)) / len(wanted) if wanted else float("nan"))
    return scores
