"""Every method's step beside the step that its authors' code, or MU-Bench's, takes from the same weights on the same batches: ``authors.json`` keeps what
that code made of ``cases``, whose it is and what had to be mended. Equal to 2e-6, or equal with each named departure switched on and different without
any one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from mubench_ray.methods import METHODS
from tests.released import cases
from tests.released.departures import (
    Departure,
    all_tokens_alike,
    changed,
    configured,
    every_class_weighed_apart,
    every_place_counts,
    forget_first,
    forget_weighed_first,
    labelled,
    mean_in_the_sigmoid,
    one_step_after_the_other,
    retain_first,
    retain_weighed_first,
    true_label_where_nothing_is_crossed,
    whole_batches_squared,
)
from tests.released.ours import KEPT, RELEASED, World

#: Of weights that a step moves by less than 1; else of what it moves the furthest of them.
ATOL = 2e-6
SGD = {"momentum": 0.9, "weight_decay": 5e-4}
MOMENTUM = {"momentum": 0.9}
MU_BENCH = METHODS.get("scrub").presets["mu_bench"] | {"epochs": 1, "msteps": 1}

PRESET = Departure("preset mu_bench", MU_BENCH)
TRAIN = Departure("train mode", {"mode": "train"})
PASSES, MIXED = (Departure(f"form {form}", {"form": form}) for form in ("passes", "mixed"))
TOKENS_MEAN = Departure("mean over a target's tokens", {"reduction": "mean"})
SUM_OF_TERMS = Departure("sum of both terms, not their mean", rate=2.0)
MEAN_OVER_CLASSES = Departure("mean over classes, too", rate=1 / cases.CLASSES)
NEXT_LABEL = Departure("the class after the true one", change=labelled(cases.wrong_labels("next")))
ANY_LABEL = Departure("the true label may be drawn", change=labelled(cases.wrong_labels("any")))
IN_THE_SIGMOID = Departure("the batch's mean within the sigmoid", change=mean_in_the_sigmoid)
TOKENS_ALIKE = Departure("all tokens of a batch weigh alike", change=all_tokens_alike)
EVERY_PLACE = Departure("prompt, padding and the last place count", change=every_place_counts)
WHOLE_BATCHES = Departure("gradients of whole batches squared", change=whole_batches_squared)
TWO_STEPS = Departure("two steps, one after the other", change=one_step_after_the_other)
TRUE_LABEL = Departure("the true label where no boundary is crossed", change=true_label_where_nothing_is_crossed)
CLASSES_APART = Departure("each class's term weighed apart", change=every_class_weighed_apart)
FORGET_WEIGHED_FIRST = Departure("D_F's losses weighed first", change=forget_weighed_first)
RETAIN_WEIGHED_FIRST = Departure("D_R's divergences weighed first", change=retain_weighed_first)
TAU = Departure("tau of the confidences", options={"superloss_tau": "confidence"})
#: BatchNorm's running statistics know which of the two came last.
RETAIN_FIRST = Departure("D_R's forward pass first", change=retain_first, statistics=True)
FORGET_FIRST = Departure("D_F's forward pass first", change=forget_first, statistics=True)
#: No departure: of one batch of D_R no rest follows.
BARGAIN = Departure("one batch", change=lambda world, method, phases: phases[:1])


@dataclass(frozen=True)
class Step:
    """A run of ours, what of ``authors.json`` it is held to, and what has to be switched on for that."""

    key: str
    method: str
    given: dict[str, Any] = field(default_factory=dict)
    departures: tuple[Departure, ...] = ()
    start: str = "moved"
    options: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    #: Draws handed to both.
    shared: tuple[Departure, ...] = ()
    #: Whether the losses are the same numbers, too: not where they differ by a factor, or where the release keeps that of another step.
    loss: bool = True
    #: Whether parameters alone are compared: SFRon's step taken apart makes one forward pass more.
    parameters: bool = False

    @property
    def compared(self) -> int:
        """How many of a run's numbers, parameters first, are compared."""
        return weights_of(self) if self.parameters else len(World(self.start, self.text).vector())


def weights_of(step: Step) -> int:
    """How many numbers the parameters are."""
    return sum(p.numel() for p in World(step.start, step.text).ctx.network.parameters())


ONE, TWO = {"epochs": 1}, {"epochs": 2}
NPO = {"epochs": 1, "gamma": 0.0}
SUPERLOSS = {"superloss": 10.0}
SFRON = {"epochs": 5, "period": 2, "alpha": 25.0, "clip": 0.5}
STEPS = [
    Step("mu_bench/neggrad", "neggrad", ONE),
    Step("mu_bench/grad_diff", "grad_diff", ONE, (FORGET_FIRST,)),
    Step("mu_bench/rand_label", "rand_label", ONE, (NEXT_LABEL,)),
    Step("mu_bench/bad_t", "bad_t", ONE, (SUM_OF_TERMS, RETAIN_FIRST), loss=False),
    Step("mu_bench/scrub", "scrub", {"epochs": 1, "msteps": 1}, (PRESET,)),
    Step("mu_bench/npo", "npo", NPO, (IN_THE_SIGMOID,)),
    Step("mu_bench/npo_text", "npo", NPO, (TOKENS_MEAN, IN_THE_SIGMOID), text="uneven"),
    Step("mu_bench/delete", "delete", ONE),
    Step("mu_bench/l1_sparse", "l1_sparse", {"epochs": 2, "alpha": 0.01}),
    Step("mu_bench/superloss_neggrad", "neggrad", TWO, (TAU,), options=SUPERLOSS, loss=False),
    Step("mu_bench/superloss_delete", "delete", TWO, (TAU,), options=SUPERLOSS, loss=False),
    Step(
        "mu_bench/superloss_grad_diff",
        "grad_diff",
        TWO,
        (TAU, FORGET_WEIGHED_FIRST),
        options=SUPERLOSS,
        loss=False,
    ),
    Step(
        "mu_bench/superloss_bad_t",
        "bad_t",
        TWO,
        (TAU, SUM_OF_TERMS, CLASSES_APART, RETAIN_WEIGHED_FIRST),
        options=SUPERLOSS,
        loss=False,
    ),
    Step("rl/passes", "rand_label", ONE, (PASSES, ANY_LABEL), options=SGD),
    Step("salun/passes", "salun", ONE, (ANY_LABEL,), options=SGD),
    Step("salun/mixed", "salun", TWO, (MIXED, ANY_LABEL), options=SGD),
    Step("salun/ga", "neggrad", TWO, options=SGD),
    Step("l1_sparse", "l1_sparse", {"epochs": 2, "alpha": 0.01}),
    Step("scrub/step", "scrub", {"epochs": 1, "msteps": 1, "gamma": 0.9, "rewind": False}),
    Step("scrub/negrad_loops", "neggrad_plus", {"epochs": 1, "alpha": 0.9}, (TRAIN,), loss=False),
    Step("scrub/negrad_notebook", "neggrad_plus", {"epochs": 1, "alpha": 0.9}),
    Step("bad_t", "bad_t", {"epochs": 1, "temperature": 2.0}, (MIXED, MEAN_OVER_CLASSES), loss=False),
    Step("delete", "delete", TWO, start="original", options=MOMENTUM),
    Step("ssd", "ssd", {"alpha": 2.0}, start="original"),
    Step("ssd/whole_batches", "ssd", {"alpha": 2.0}, (WHOLE_BATCHES,), start="original"),
    Step("lfssd", "lfssd", {"alpha": 1.1}, start="original"),
    Step("npo/authors", "npo", ONE, (TOKENS_ALIKE,), text="uneven"),
    Step("npo/authors_even", "npo", ONE, text="even"),
    Step("npo/open_unlearning", "npo", NPO, text="uneven"),
    Step("grad_diff/open_unlearning_nll", "grad_diff", ONE, (TOKENS_ALIKE,), text="uneven"),
    Step("grad_diff/open_unlearning_nll_even", "grad_diff", ONE, text="even"),
    Step(
        "grad_diff/open_unlearning_kl", "grad_diff", ONE | {"retain": "kl"}, (TOKENS_ALIKE, EVERY_PLACE), text="uneven"
    ),
    Step("grad_diff/open_unlearning_kl_even", "grad_diff", ONE | {"retain": "kl"}, (EVERY_PLACE,), text="even"),
    Step("sfron", "sfron", SFRON, (TWO_STEPS,), parameters=True),
    Step("munba", "munba", ONE, shared=(ANY_LABEL, BARGAIN), options={"clip": 1.0}),
    Step("boundary_shrink", "boundary_shrink", TWO, start="original", options=MOMENTUM),
    Step(
        "boundary_shrink/near",
        "boundary_shrink",
        TWO | {"bound": 0.005},
        (TRUE_LABEL,),
        start="original",
        options=MOMENTUM,
    ),
]


def taken(step: Step, departures: tuple[Departure, ...]) -> tuple[torch.Tensor, list[float], torch.Tensor]:
    """Where our run ends, its losses, and where it started."""
    world = World(step.start, step.text)
    before = world.vector()
    method = configured(step.method, step.given, departures)
    options = {**step.options, **{name: value for d in departures for name, value in d.options.items()}}
    losses = world.run(method, changed((*step.shared, *departures)), **options)
    return world.vector(), losses, before


def theirs(step: Step, before: torch.Tensor) -> torch.Tensor:
    """Where released code ends; of logits that are weights after a step of length 1."""
    kept = RELEASED[step.key]
    if step.text:
        gradients = [kept[f"gradient_{name}"] for name in ("forget", "retain")]
        parts = [torch.zeros(rows) if g is None else torch.tensor(g) for g, rows in zip(gradients, (4 * 42, 3 * 42))]
        return before - torch.cat(parts).double()
    return torch.tensor(kept["after"], dtype=torch.float64)


def test_the_problem_is_the_one_that_released_code_ran_on():
    """Else every figure would be of something else."""
    for name in ("original", "moved", "other"):
        assert cases.vector(cases.network(name)) == pytest.approx(KEPT["problem"][f"network {name}"], abs=1e-7)
    assert {f"pixels {name}": int(image.sum()) for name, (image, _) in cases.pictures().items()}.items() <= KEPT[
        "problem"
    ].items()
    logits = sum(cases.logits(a, b).double().sum() for a in ("forget", "retain") for b in ("original", "moved"))
    assert float(logits) == pytest.approx(KEPT["problem"]["logits"], abs=1e-4)


def test_every_figure_says_whose_it_is():
    assert all(
        len(kept["commit"]) == 40 and kept["repository"] and kept["function"] and kept["settings"]
        for kept in RELEASED.values()
    )


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.key)
def test_with_its_departures_ours_ends_where_released_code_ends(step):
    end, losses, before = taken(step, step.departures)
    expected = theirs(step, before)
    moved = float((expected - before)[: weights_of(step)].abs().max())
    assert moved > 1e-3, "the released step moved nothing"
    apart = (end - expected)[: step.compared].abs()
    assert float(apart.max()) <= ATOL * max(1.0, moved)
    kept = RELEASED[step.key].get("loss")
    if step.loss and kept is not None:
        assert losses == pytest.approx(kept if isinstance(kept, list) else [kept], rel=1e-5)


@pytest.mark.parametrize(
    ("step", "departure"),
    [pytest.param(step, d, id=f"{step.key}: {d.name}") for step in STEPS for d in step.departures],
)
def test_without_a_departure_it_does_not(step, departure):
    """So that each one is needed, and named."""
    end, _, before = taken(step, tuple(d for d in step.departures if d is not departure))
    apart = (end - theirs(step, before)).abs()
    assert float(apart.max()) > 10 * ATOL
    assert (float(apart[: weights_of(step)].max()) <= ATOL) == departure.statistics


def test_every_departure_has_its_row_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "fidelity.md").read_text()
    section = page.split("## Beside the authors' code, step by step")[1].replace(" ", "")
    named = {d.name for step in STEPS for d in step.departures if not d.statistics}
    assert {name for name in named if name.replace(" ", "") not in section} == set()
