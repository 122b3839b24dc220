"""What every sampler is held to: what it declares, and what it draws from made-up examples."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mubench_ray.conformance.bench import Pictures
from mubench_ray.conformance.findings import Finding, all_of, guarded, misnumbered, unsaid
from mubench_ray.errors import MubenchError
from mubench_ray.forget import SAMPLERS, Draw, Sampler, Scored, Scores, halves, split_forget
from mubench_ray.randomness import numpy_generator
from mubench_ray.tasks.examples import Examples
from mubench_ray.trial import ForgetSet

#: Examples of the made-up training list; a fifth of them is D_V's, so that a position in D is no place in the list.
LISTED = 300


@dataclass(frozen=True)
class Setting:
    """A sampler with options, as a suite sets it, the examples that it draws from, and the scores that it is given."""

    kind: type[Sampler]
    options: dict[str, Any]
    train: Examples
    scores: tuple[Scores, ...] = ()
    told: str = ""

    @property
    def sampler(self) -> Sampler:
        """One that has drawn nothing yet."""
        return self.kind.configure(self.options)

    def order(self, sampler: Sampler | None = None, ratio: float | None = None, seed: int = 1) -> Tensor:
        """The order of deletion for a ratio (unless given the largest that the data gives, or 10) and a forget seed."""
        sampler = sampler or self.sampler
        if ratio is None:
            ratio = sampler.shares(self.train)[-1] if sampler.whole else 10.0
        return sampler.order(self.train, Draw(ratio, numpy_generator(self.kind.name, seed), self.scores))

    def ratios(self) -> list[float]:
        """Ratios that it can draw, rising: three, or that of a whole."""
        if self.sampler.whole:
            return self.sampler.shares(self.train)
        share = min(40.0, 100 * len(self.order()) / len(self.train))
        return [share / 4, share / 2, 3 * share / 4]

    def drawn(self, ratio: float, seed: int = 1) -> set[int]:
        """D_F as a trial draws it, of the sampler that a plan has prepared."""
        options = self.sampler.prepared(ratio).options
        forget = ForgetSet(sampler=self.kind.name, ratio=ratio, seed=seed, options=options)
        return set(split_forget(self.train, forget, self.scores).forget.tolist())


def check(name: str) -> Iterator[Finding]:
    """What the sampler declares and draws, with options made up where it needs some, and with each of its switches turned."""
    kind = SAMPLERS.get(name)
    yield from guarded(partial(check_declarations, kind), "declares what it is")
    with tempfile.TemporaryDirectory() as folder:
        yield from guarded(partial(check_settings, kind, Path(folder)))


def check_declarations(kind: type[Sampler]) -> Iterator[Finding]:
    """What the class says of itself, whatever its options."""
    said = {"docstring": vars(kind).get("__doc__"), "title": kind.title}
    yield all_of("has a docstring and a title", unsaid(said))
    faults = misnumbered(kind.version)
    if not isinstance(kind.exact, bool):
        faults.append(f"exact is {kind.exact!r}, not True or False")
    yield all_of("its version and exact are ones", faults)


def check_settings(kind: type[Sampler], folder: Path) -> Iterator[Finding]:
    """Its options, then what it draws in each of its settings."""
    train = examples()
    needed = made_up(kind, train, folder)
    yield all_of("takes its defaults, asks for what has none, refuses the rest", misconfigured(kind, needed))
    switches = {name: not o.default for name, o in kind.model_fields.items() if isinstance(o.default, bool)}
    settings = [setting(kind, needed | more, train) for more in ({}, *({name: on} for name, on in switches.items()))]

    parts, wholes = ([each for each in settings if each.sampler.whole is whole] for whole in (False, True))
    for name, look, of in (
        ("asks for what it reads, scores and groups", unasked, settings),
        ("orders positions of D, each at most once", disordered, settings),
        ("draws from its own generator alone", leaking, settings),
        ("same seed, same order, whatever was drawn before", unstable, settings),
        ("its shares are those of what the data gives", unshared, wholes),
        ("draws as many as the ratio says, a smaller ratio's from a larger's", unnested, parts),
        ("another seed, another set, unless it draws nothing at random", deaf, settings),
        ("leaves examples and scores as they are", spoilt, settings),
    ):
        if of:
            yield (found := all_of(name, [f"{each.told}{fault}" for each in of for fault in look(each)]))
            if not found.ok:
                return  # what comes after builds on it


def examples() -> Examples:
    """Made-up pictures of four classes, with groups and published sets of the names that data here has."""
    listed = Pictures.draw(LISTED, "samplers")
    places = torch.arange(LISTED)
    groups = {"superclass": listed.labels // 2, "subclass": places % 8, "speaker": places % 60 // 5}
    published = {"forget05": places % 20 == 1, "forget10": places % 10 == 1}
    return replace(listed, groups=groups, published=published).select(places[places % 5 > 0])


def made_up(kind: type[Sampler], train: Examples, folder: Path) -> dict[str, Any]:
    """Values of the options that have no default, with which it draws something; raises MubenchError where none of those tried is taken."""
    needed = [name for name, option in kind.model_fields.items() if option.is_required()]
    listed = folder / "ids.txt"
    listed.write_text("\n".join(map(str, reversed(range(0, LISTED, 3)))))
    tried = [1, [1], 0.5, str(listed), "speaker", "superclass", "class"]
    taken = []
    for values in product(tried, repeat=len(needed)):
        options = dict(zip(needed, values))
        try:
            kind.configure(options)
        except MubenchError:
            continue
        taken.append(options)
        if drawable(setting(kind, options, train)):
            return options
    if not taken:
        raise MubenchError(f"no values are known for {', '.join(needed)}, which need some: {tried} were tried.")
    return taken[0]


def drawable(setting: Setting) -> bool:
    """Whether it draws anything at all; why not is told where it is held to it."""

    def draws() -> Iterator[Finding]:
        yield Finding("draws", len(setting.order()) > 0)

    return all(finding.ok for finding in guarded(draws))


def setting(kind: type[Sampler], options: dict[str, Any], train: Examples) -> Setting:
    """The sampler with these options, and scores of as many networks as it reads: none of most."""
    sampler, scores = kind.configure(options), ()
    if isinstance(sampler, Scored):
        pool = [None] if sampler.pool is None else range(sampler.pool)
        scores = tuple(score(len(train), half) for half in pool)
    told = ", ".join(f"{name} = {options[name]}" for name in options if not kind.model_fields[name].is_required())
    return Setting(kind, options, train, scores, told and f"{told}: ")


def score(size: int, half: int | None) -> Scores:
    """What a network that saw this half of D, all of it for None, may do on every example."""
    rng, seen = numpy_generator("made up", "scores", half), np.ones(size)
    if half is not None:
        seen = np.isin(np.arange(size), halves(size, half)[0].numpy()).astype(float)
    confidence = rng.normal(2 * seen, 2)
    return {"loss": np.logaddexp(0, -confidence), "correct": (confidence > 0).astype(float), "confidence": confidence,
            "entropy": rng.gamma(1, 1, size), "seen": seen}  # fmt: skip


def misconfigured(kind: type[Sampler], needed: dict[str, Any]) -> list[str]:
    """What it takes and should not, and refuses and should take."""
    faults = []
    for name, option in kind.model_fields.items():
        if not option.is_required():
            try:
                kind.configure(needed | {name: option.get_default(call_default_factory=True)})
            except MubenchError as error:
                faults.append(f"its own default is refused: {error}")
    for given in [needed | {"no_such_option": 1}, *({k: v for k, v in needed.items() if k != name} for name in needed)]:
        lacking = next(iter(needed.keys() - given.keys()), "no_such_option")
        try:
            kind.configure(given)
            faults.append(f"{given} is accepted")
        except MubenchError as error:
            if lacking not in str(error):
                faults.append(f"{given} is refused without a word of {lacking}: {error}")
    return faults


def disordered(setting: Setting) -> list[str]:
    """What is wrong with an order itself."""
    order, size = setting.order(), len(setting.train)
    if not isinstance(order, Tensor) or order.dtype != torch.int64 or order.dim() != 1:
        kind = f"{order.dtype} {tuple(order.shape)}" if isinstance(order, Tensor) else type(order).__name__
        return [f"order gives {kind}, expected a tensor int64 (n,)"]
    if not len(order):
        return ["it orders nothing"]
    faults = []
    if not 0 <= int(order.min()) <= int(order.max()) < size:
        faults.append(f"positions {int(order.min())}..{int(order.max())}, expected 0..{size - 1} (not source_index)")
    if twice := len(order) - len(order.unique()):
        faults.append(f"{twice} positions come again")
    return faults


def unstable(setting: Setting) -> list[str]:
    """Draws that earlier draws of the same sampler, or another ratio, change."""
    first, sampler = setting.order(), setting.sampler
    setting.order(sampler, seed=2)
    setting.order(sampler, setting.ratios()[0])
    faults = []
    if not torch.equal(first, setting.order()):
        faults.append("a second sampler orders otherwise")
    elif not torch.equal(first, setting.order(sampler)):
        faults.append("the order is another after other draws")
    return faults


def deaf(setting: Setting) -> list[str]:
    """Whether the forget seed matters where it should, and only there."""
    ratio = setting.ratios()[-1]
    same = setting.drawn(ratio, 1) == setting.drawn(ratio, 2)
    if setting.sampler.random:
        return ["seeds 1 and 2 draw the same set, and random says otherwise"] if same else []
    return [] if same else ["seeds 1 and 2 draw different sets, and random says otherwise"]


def leaking(setting: Setting) -> list[str]:
    """The streams of others that it reads or moves: random's, numpy's and torch's own."""

    def state() -> tuple[Any, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()

    orders, faults = [], []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = state()
        orders.append(setting.order())
        if state() != before:
            faults = ["it draws from, or seeds, the global stream of random, numpy or torch"]
    if not torch.equal(*orders):
        faults.append("the order depends on more than draw.rng: on a global stream, or on earlier draws")
    return faults


def spoilt(given: Setting) -> list[str]:
    """What of D or of the scores is changed where it lies."""
    new = setting(given.kind, given.options, examples())  # another draw may have changed it already
    held = {**new.train.columns, **new.train.groups, **new.train.published, "source_index": new.train.source_index}
    held |= {f"{name} of scores": torch.from_numpy(v) for each in new.scores for name, v in each.items()}
    before = {name: column.clone() for name, column in held.items()}
    new.order()
    return [f"{name!r} is changed" for name in held if not torch.equal(held[name], before[name])]


def unasked(setting: Setting) -> list[str]:
    """What it reads and does not say: scores are given to Scored samplers alone, and not all data has groups."""
    if not drawable(setting):
        given = replace(setting, scores=tuple(score(len(setting.train), half) for half in range(8)))
        return ["it reads draw.scores: derive it from Scored, which is given them"] if drawable(given) else []

    def draws() -> Iterator[Finding]:
        try:
            replace(setting, train=replace(setting.train, groups={}, published={})).order()
        except MubenchError as error:
            yield Finding("says what is missing", True, str(error))

    told = (
        "of data without the groups, or published sets, that it reads it says {}: raise a MubenchError that names them"
    )
    return [told.format(finding.detail) for finding in guarded(draws) if not finding.ok]


def unshared(setting: Setting) -> list[str]:
    """What is wrong with the ratios of what the data gives."""
    faults = []
    for share in setting.sampler.shares(setting.train):
        order = setting.order(ratio=share)
        there = 100 * len(order) / len(setting.train)
        if not abs(share - there) < 0.05:
            faults.append(f"shares says {share:g} %, the order holds {there:g} %")
        elif (drawn := setting.drawn(share)) != set(order.tolist()):
            faults.append(f"of {len(order)} in the order {len(drawn)} are D_F")
    return faults


def unnested(setting: Setting) -> list[str]:
    """What is wrong with the sets of three ratios."""
    size, ratios = len(setting.train), setting.ratios()
    sets = [setting.drawn(ratio) for ratio in ratios]
    wanted = [round(size * ratio / 100) for ratio in ratios]
    faults = [
        f"ratio {ratio:g} of {size} are {len(drawn)}, expected {count}: say exact = False"
        for ratio, drawn, count in zip(ratios, sets, wanted)
        if setting.kind.exact and len(drawn) != count
    ]
    faults += [
        f"{len(less - more)} of the {len(less)} of ratio {low:g} are not in ratio {high:g}"
        for (low, less), (high, more) in pairwise(zip(ratios, sets))
        if not less <= more
    ]
    return faults
