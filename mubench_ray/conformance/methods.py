"""What every method is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from mubench_ray.conformance.bench import Pictures, Ran, WatchedContext, bench, run, unweighed
from mubench_ray.conformance.findings import Finding, guarded
from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS, Method
from mubench_ray.models import MODELS
from mubench_ray.trial import Unlearning

#: The networks that every method must run on, or refuse with a reason.
NETWORKS = ("cnn-small", "vit-tiny")
#: The curriculum that MU-Bench wraps every method with.
SUPERLOSS = Unlearning(batch_size=4, superloss=10.0)


def shortest(method: type[Method]) -> Method:
    """The method at its defaults, its epochs at their least."""
    return method.configure({name: space.low for name, space in method.spaces().items() if name.endswith("epochs")})


def check_method(name: str) -> list[Finding]:
    """Hold a method to the conformance suite; raises UnknownName where there is no such method."""
    return list(guarded(partial(check, METHODS.canonical(name))))


def check(name: str) -> Iterator[Finding]:
    """What the method says of itself, and what it does on each of NETWORKS."""
    method = METHODS.get(name)
    yield from check_declarations(method)
    if reason := method.refusal(Pictures):
        yield Finding(f"refuses pictures: {reason}", True, reason)
        return
    whole = True
    for model in NETWORKS:
        refusal = method.refusal_for_network(MODELS.get(model).build(Pictures()))
        if refusal:
            yield Finding(f"refuses {model}: {refusal}", True, refusal)
        else:
            for finding in guarded(partial(check_runs, method, model, whole)):
                yield Finding(f"{model}: {finding.name}", finding.ok, finding.detail)
            whole = False


def check_declarations(method: type[Method]) -> Iterator[Finding]:
    """What the class says of itself."""
    said = {"docstring": (method.__doc__ or "").strip(), "title": method.title, "citation": method.cites}
    missing = [what for what, text in said.items() if len(text) < (10 if what == "docstring" else 2)]
    if (method.__doc__ or "").startswith(f"{method.__name__}("):  # what dataclass writes where there is none
        missing.append("docstring")
    yield Finding("has a docstring, a title and a citation", not missing, ", ".join(missing))
    place = vars(method.taxonomy)
    empty = [part for part, text in place.items() if not text]
    yield Finding("has its place in the taxonomy", not empty, ", ".join(empty))
    outside = []
    for name, space in method.spaces().items():
        default = method.defaults()[name]
        inside = default in space.choices if space.kind == "choice" else space.low <= default <= space.high
        if not inside:
            outside.append(f"{name} = {default!r}")
    yield Finding("defaults lie in the search space", not outside, ", ".join(outside))
    wrong: list[dict[str, Any]] = [{"no_such_hyperparameter": 1}]
    for name, space in method.spaces().items():
        below = {"choice": [], "log_uniform": [{name: 0.0}]}.get(space.kind, [{name: space.low - 1}])
        wrong += [{name: object()}, {name: float("nan")}, *below]
    accepted = [str(given) for given in wrong if accepts(method, given)]
    yield Finding("refuses wrong hyperparameters", not accepted, ", ".join(accepted))


def accepts(method: type[Method], given: dict[str, Any]) -> bool:
    """Whether the method takes these hyperparameters."""
    try:
        method.configure(given)
    except MubenchError:
        return False
    return True


def check_runs(method: type[Method], model: str, whole: bool = True) -> Iterator[Finding]:
    """What the method does to a network; ``whole`` runs it a few times more: to compare two runs, to cut one short and to weigh its examples."""
    chosen = shortest(method)
    start = partial(bench, model, method.uses_validation, lr=1e-2 if method.uses_lr else None)

    def once(cap_flos: float | None = None) -> Ran:
        return run(chosen, start(cap_flos=cap_flos))

    one = once()
    yield Finding("runs", True)
    broken = infinite(one)
    yield Finding("parameters stay finite", not broken, ", ".join(broken))
    acts = len(one.steps) > 1
    yield check_claims(method, one, acts)
    yield Finding("its cost is counted", (one.ctx.meter.flos > 0) == acts, f"{one.ctx.meter.flos:g} FLOs")
    leaked = sorted(one.ctx.watched.leaked)
    yield Finding(
        "D_R holds nothing of D_F", not leaked, f"examples {leaked[:5]} came as if they were kept" if leaked else ""
    )
    faults = sorted(one.ctx.faults)
    yield Finding("relabels D_F alone, and never with the true label", not faults, "; ".join(faults))
    taught = disturbed(one)
    yield Finding("teachers stand still in eval mode", not taught, ", ".join(taught))
    if not whole:
        return
    torch.manual_seed(99)  # what was drawn before must not matter
    other = once()
    differ = [name for name in one.after if not torch.equal(one.after[name], other.after[name])]
    yield Finding("same seed, same result", not differ, ", ".join(differ[:3]))
    if acts:
        yield check_superloss(chosen, one, start)
    if len(one.steps) > 2:
        cap = one.ctx.meter.flos / 2
        cut = once(cap)
        meter = cut.ctx.meter
        inside = meter.flos <= cap * (1 + 1e-9) and len(cut.steps) < len(one.steps)
        yield Finding(
            "stops at its budget",
            cut.truncated and inside,
            f"{meter.flos / cap:.2f} of the cap, truncated = {cut.truncated}",
        )
        broken = infinite(cut)
        yield Finding("is finite when cut short", not broken, ", ".join(broken))


def check_superloss(chosen: Method, plain: Ran, start: Callable[[], WatchedContext]) -> Finding:
    """Whether every loss of an example goes through the curriculum; ``plain`` is a run without one, ``start`` gives a context to run anew from."""
    if reason := chosen.refusal_for_options(SUPERLOSS):
        return Finding(f"refuses SuperLoss: {reason}", True, reason)
    name, remedy = (
        "SuperLoss weighs every example's loss",
        "take it through ctx.loss, ctx.kl, ctx.divergence or ctx.mean",
    )
    weighed = run(chosen, start(), SUPERLOSS).after
    if all(torch.equal(tensor, weighed[name]) for name, tensor in plain.after.items()):
        return Finding(
            name, False, f"the weights are the same with it and without: {remedy}, or declare without_superloss"
        )
    # A penalty on the weights is no example's.
    past = [] if chosen.reads_weights else unweighed(chosen, start())
    return Finding(name, not past, f"part of the loss of {', '.join(past[:3])} goes past it: {remedy}" if past else "")


def infinite(ran: Ran) -> list[str]:
    """Up to three tensors that are not finite."""
    return [name for name, tensor in ran.after.items() if not torch.isfinite(tensor).all()][:3]


def disturbed(ran: Ran) -> list[str]:
    """Teachers that are in train mode, that could take gradients, or that changed."""
    teachers = ran.ctx._teachers.items()
    found = [
        name for name, teacher in teachers if teacher.training or any(p.requires_grad for p in teacher.parameters())
    ]
    start = ran.ctx.original.state_dict()
    return found + ["original was changed"] * any(not torch.equal(start[name], ran.before[name]) for name in start)


def check_claims(method: type[Method], ran: Ran, acts: bool) -> Finding:
    """Whether the parameters moved that the taxonomy says move: all tensors (dense), or some entries and not others (sparse)."""
    names = [name for name, _ in ran.ctx.network.named_parameters()]
    if set(names) - ran.before.keys():
        return Finding("changes what it claims", method.taxonomy.parameters != "dense", "f_U is another architecture")
    moved = {name: ran.after[name] != ran.before[name] for name in names}
    still = [name for name in names if not moved[name].any()]
    if not acts:
        return Finding(
            "changes what it claims",
            len(still) == len(names),
            "takes no step and changes parameters" if len(still) < len(names) else "",
        )
    if len(still) == len(names):
        return Finding("changes what it claims", False, "no parameter changed")
    if method.taxonomy.parameters == "dense":
        return Finding(
            "changes what it claims", not still, f"dense, but {', '.join(still[:3])} did not change" if still else ""
        )
    everything = all(bool(m.all()) for m in moved.values())
    return Finding(
        "changes what it claims",
        not everything,
        f"{method.taxonomy.parameters}, but every entry changed" if everything else "",
    )
