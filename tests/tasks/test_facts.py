import math

import pytest

from mubench_ray.tasks.facts import facts, factual_overlap


def test_facts_are_names_numbers_and_years():
    text = "Ada Lovelace was born in London in 1815. She wrote 3.5 pages; the Analytical Engine's author, O'Brien, met her."
    assert facts(text) == {"ada", "lovelace", "london", "1815", "3.5", "analytical", "engine's", "o'brien"}
    assert facts(text, "Tell me a bio of Ada Lovelace.") == facts(text) - {"ada", "lovelace"}
    assert facts("Élise went to Århus on Friday.") == {"élise", "århus", "friday"}


def test_overlap_is_the_share_of_the_references_facts():
    prompt = "Question: Tell me a bio of Ada.\nAnswer:"
    reference = "Ada was born in London in 1815."
    generated = ["Ada came from Paris, in 1815", "In LONDON nothing; London, 1815.", "", "Ada Ada Ada"]
    scores = factual_overlap(generated, [reference] * 4, [prompt] * 4)
    assert scores == pytest.approx([0.5, 1.0, 0.0, 0.0])
    assert math.isnan(factual_overlap(["x"], ["he was there"], [""])[0])
    with pytest.raises(ValueError):
        factual_overlap(["x"], [], [])
