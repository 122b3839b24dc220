"""What every task is held to: what it says of itself, the data that it loads, and what it makes of a network's outputs for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from mubench_ray.conformance.findings import Finding, all_of, guarded, misnumbered, unsaid
from mubench_ray.errors import MubenchError
from mubench_ray.models import MODELS, Model
from mubench_ray.models.base import parameters
from mubench_ray.models.counts import kept
from mubench_ray.tasks import TASKS, Batch, Card, Classification, Columns, Examples, Splits, Task
from mubench_ray.tasks.examples import out_of_range
from mubench_ray.tasks.text import TextTask
from mubench_ray.tasks.text_to_image import TextToImage
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.trial import Training

#: Examples that are looked at of every set, and those that a network is tried on.
LOOKED_AT, TRIED = 64, 4
#: Columns that say where an example stands and not what it is.
PLACES = ("index", "text", "target", "picture")
CARD = tuple(field.name for field in fields(Card) if field.name not in ("sizes", "traps"))


def check(name: str) -> Iterator[Finding]:
    """What the task declares; then, where its data can be read, the data, its targets and its losses under the smallest model that serves it."""
    task = TASKS.get(name)
    yield from guarded(partial(check_declarations, task), "declares what it is")
    yield from guarded(partial(check_data, task()), "loads")


def check_declarations(task: type[Task]) -> Iterator[Finding]:
    """What the class says of itself."""
    said = {"docstring": vars(task).get("__doc__")} | {part: getattr(task.card, part) for part in CARD}
    yield all_of(f"has a docstring and on its card {', '.join(CARD[:-1])} and {CARD[-1]}", unsaid(said), 9)
    unsized = [part for part in ("train", "validation", "test") if not task.card.sizes.get(part)]
    yield all_of(
        "its card says how many examples D, D_V and D_Test have", [f"sizes lacks {part!r}" for part in unsized]
    )
    faults = misnumbered(task.version)
    if not isinstance(task.training, Training):
        faults.append(f"training is {task.training!r}, not a Training")
    if issubclass(task, Classification) and not (isinstance(task.classes, int) and task.classes >= 2):
        faults.append(f"classes is {task.classes!r}, not a number from 2 on")
    elif issubclass(task, Classification) and (names := task.class_names) and len(set(names)) != task.classes:
        faults.append(f"class_names are {len(set(names))} names for {task.classes} classes")
    yield all_of("its training, version and classes are ones", faults)
    mean, std = getattr(task, "mean", None), getattr(task, "std", None)
    if mean is not None or std is not None:
        mean, std = mean or (), std or ()
        channels = getattr(task, "channels", len(mean))
        right = len(mean) == len(std) == channels and all(0 <= m <= 1 for m in mean) and all(0 < s <= 0.5 for s in std)
        told = "" if right else f"mean {mean} and std {std}: one a channel ({channels}), of pixels in [0, 1]"
        yield Finding("mean and std are those of pixels in [0, 1]", right, told)


def check_data(task: Task) -> Iterator[Finding]:
    """What ``load`` gives."""
    splits = task.load()
    if not isinstance(splits, Splits):
        yield Finding("loads", False, f"load() gives {type(splits).__name__}, not Splits")
        return
    yield Finding("loads", True)
    parts = {"D": splits.train, "D_V": splits.validation, "D_Test": splits.test} | splits.shifted
    empty = [name for name, part in parts.items() if not len(part)]
    carved = splits.validation.carved
    said = f"carves_validation is {task.carves_validation}, and load() {'carves' if carved else 'does not carve'} D_V with carve_validation"
    yield all_of("says where D_V is from", [] if carved == task.carves_validation else [said])
    yield all_of("no set is empty", [f"{name} is empty" for name in empty])
    if empty:
        return
    sizes = {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)}
    told = [f"{part} has {size}, the card says {task.card.sizes.get(part)}" for part, size in sizes.items()]
    wrong = [text for (part, size), text in zip(sizes.items(), told) if task.card.sizes.get(part) != size]
    yield all_of("sets have the sizes on its card", wrong)
    looked = {name: part.take(places(part)) for name, part in parts.items()}
    yield all_of("columns are like those of blank", [f for name, c in looked.items() for f in unlike(task, name, c)])
    yield all_of("labels lie in 0 .. classes - 1", [f for name, p in parts.items() for f in mislabelled(task, name, p)])
    yield all_of("D has examples of the first and of the last class", absent(task, splits.train))
    yield all_of(
        "groups are int64, published sets bool, one an example",
        [f for name, p in parts.items() for f in misgrouped(name, p)],
    )
    yield all_of(
        "shifted sets are declared", [f"{name!r} is not in shifted" for name in splits.shifted.keys() - {*task.shifted}]
    )
    yield all_of("inputs lie in their range", [f for name, c in looked.items() for f in out_of_range(name, c)])
    yield all_of("D, D_V and D_Test share no example", shared(task, splits))
    if isinstance(task, TextTask):
        own = {
            number for name in ("text", "target") for number in splits.train.columns.get(name, torch.empty(0)).tolist()
        }
        read = len(set(task.texts.training) - own)
        yield Finding("tokenizers are trained on D alone", not read, f"on {read} other texts too" if read else "")
    yield all_of("loads the same every time", unstable(type(task), parts))
    yield from check_augmentation(task, looked["D"])
    model = smallest_model(type(task))
    if model is None:
        told = f"no model reads {task.modality} and does {task.kind}: register one, or check it with --plugin of both"
        yield Finding("a model serves it", False, told)
        return
    yield Finding("a model serves it", True)
    yield from guarded(partial(check_outputs, task, model, splits), f"{model.name}: runs")


def places(part: Examples, most: int = LOOKED_AT) -> Tensor:
    """Up to ``most`` positions, evenly spaced."""
    return torch.linspace(0, len(part) - 1, min(len(part), most)).long()


def unlike(task: Task, name: str, columns: Columns) -> list[str]:
    """How the columns differ in names, shapes and types from those that ``blank`` says."""
    said, there = ({key: (tuple(c.shape[1:]), c.dtype) for key, c in each.items()} for each in (task.blank(2), columns))
    missing = [f"{name} lacks {key!r}" for key in said.keys() - there.keys()]
    more = [f"{name} has {key!r}, blank has not" for key in there.keys() - said.keys()]
    differ = [key for key in said.keys() & there.keys() if said[key] != there[key]]
    return missing + more + [f"{key!r} of {name} is {there[key]}, blank says {said[key]}" for key in sorted(differ)]


def mislabelled(task: Task, name: str, part: Examples) -> list[str]:
    """What is wrong with a set's labels."""
    labels, last = part.labels, getattr(task, "classes", 1) - 1
    if labels.dtype != torch.int64 or labels.shape != (len(part),):
        return [f"labels of {name} are {labels.dtype} {tuple(labels.shape)}, expected int64 ({len(part)},)"]
    low, high = int(labels.min()), int(labels.max())
    return [] if 0 <= low <= high <= last else [f"{name} has labels {low}..{high}, expected 0..{last}"]


def absent(task: Task, train: Examples) -> list[str]:
    """The ends of 0 .. classes - 1 that no example of D has: labels that count from 1, or a class too many."""
    if not isinstance(task, Classification):
        return []
    known = set(train.labels.unique().tolist())
    ends = 0, task.classes - task.empty_classes - 1
    return [f"none of D is of class {end}, of {task.classes}" for end in ends if end not in known]


def misgrouped(name: str, part: Examples) -> list[str]:
    """What is wrong with what the data knows of a set's examples."""
    return [
        f"group {key!r} of {name} is {group.dtype} {tuple(group.shape)}, expected int64 ({len(part)},)"
        for key, group in part.groups.items()
        if group.dtype != torch.int64 or group.shape != (len(part),)
    ] + [
        f"published set {key!r} of {name} is {mask.dtype} {tuple(mask.shape)}, expected bool ({len(part)},)"
        for key, mask in part.published.items()
        if mask.dtype != torch.bool or mask.shape != (len(part),)
    ]


def shared(task: Task, splits: Splits) -> list[str]:
    """Examples that are in two sets, or twice in one. A data set may number each of its lists anew: an example is the same where its number in
    ``source_index`` and its content are."""
    parts = {"D": splits.train, "D_V": splits.validation, "D_Test": splits.test}
    twice = {name: len(part) - len(part.source_index.unique()) for name, part in parts.items()}
    faults = [f"{count} numbers of source_index occur twice in {name}" for name, count in twice.items() if count]
    for (name, part), (other_name, other) in combinations(parts.items(), 2):
        at = {number: place for place, number in enumerate(part.source_index.tolist())}
        pairs = [(at[number], place) for place, number in enumerate(other.source_index.tolist()) if number in at]
        if pairs := pairs[:LOOKED_AT]:
            mine, its = (each.take(torch.tensor(rows)) for each, rows in zip((part, other), zip(*pairs)))
            if same := sum(content(task, mine, row) == content(task, its, row) for row in range(len(pairs))):
                faults.append(f"{same} of {len(pairs)} examples of {name} looked at are in {other_name} too")
    return faults


def content(task: Task, columns: Columns, row: int) -> tuple:
    """What one example holds: its pixels or samples, its texts, its label; not where it stands."""
    own = [bytes(c[row].contiguous().view(-1).numpy().tobytes()) for n, c in columns.items() if n not in PLACES]
    if isinstance(task, TextTask):
        own += [task.texts.content[int(columns[name][row])] for name in ("text", "target") if name in columns]
    if isinstance(task, TextToImage):
        own.append(task.pictures.take(columns["picture"][row : row + 1]).numpy().tobytes())
    return tuple(own)


def unstable(task: type[Task], parts: dict[str, Examples]) -> list[str]:
    """The sets that a second ``load`` gives otherwise."""
    again = task().load()
    others = {"D": again.train, "D_V": again.validation, "D_Test": again.test} | again.shifted
    faults = []
    for name, part in parts.items():
        other = others.get(name)
        if other is None or not torch.equal(part.source_index, other.source_index):
            faults.append(f"{name} holds other examples, or in another order")
        else:
            one, two = (each.take(places(part)) for each in (part, other))
            faults += [f"{key!r} of {name} differs" for key in one if not torch.equal(one[key], two[key])]
    return faults


def check_augmentation(task: Task, columns: Columns) -> Iterator[Finding]:
    """Whether what is trained on has the same shapes and the same targets, and comes from the generator alone."""
    kept = {name: column.clone() for name, column in columns.items()}
    one, two = (task.augment(dict(columns), torch.Generator().manual_seed(7)) for _ in range(2))
    faults = [f"{key!r} becomes {tuple(c.shape)} {c.dtype}" for key, c in one.items()
              if key not in kept or (c.shape, c.dtype) != (kept[key].shape, kept[key].dtype)]  # fmt: skip
    faults += [
        f"{key!r} is changed"
        for key in ("labels", "index", *PLACES)
        if key in kept and not torch.equal(one[key], kept[key])
    ]
    faults += [f"{key!r} is changed where it lies" for key in kept if not torch.equal(columns[key], kept[key])]
    faults += [f"{key!r} is not decided by the generator alone" for key in one if not torch.equal(one[key], two[key])]
    yield all_of("augment keeps shapes and targets, and draws from its generator alone", faults)


def smallest_model(task: type[Task]) -> Model | None:
    """The registered model with the fewest parameters that serves the task."""
    counted = kept()

    def size(model: Model) -> int:
        numbers = counted.get(model.name, {}).values()
        return min(count.parameters for count in numbers) if numbers else parameters(task(), model)

    return min((model for _, model in MODELS if model.refusal(task) is None), key=size, default=None)


def check_outputs(task: Task, model: Model, splits: Splits) -> Iterator[Finding]:
    """Losses, probabilities, other targets and what is observed, of a few examples of D under a network with random weights."""
    torch.manual_seed(0)
    network = model.build(task)
    data = UnlearningData(task, model, {"forget": Rows.all_of(splits.train)})
    batch = data.batch(data.rows("forget"), places(splits.train, TRIED))
    rows = len(batch)
    inputs = [
        key for key, value in batch.inputs.items() if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    yield all_of(f"{model.name}: what the network reads is finite", inputs)
    outputs = task.outputs(network, batch)
    losses = task.losses(outputs, batch)
    losses.mean().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    moving = any(bool(g.any()) for g in gradients) and all(bool(torch.isfinite(g).all()) for g in gradients)
    network.eval()
    with torch.no_grad():
        outputs = task.outputs(network, batch)
        losses = task.losses(outputs, batch)
        faults = [] if per_example(losses, rows) else [f"losses are {describe(losses)}, expected finite ({rows},)"]
        if not moving:
            faults.append("no gradient, or one that is not finite, comes from them")
        likelihoods = task.log_likelihoods(outputs, batch)
        if not per_example(likelihoods, rows):
            faults.append(f"log_likelihoods are {describe(likelihoods)}, expected finite ({rows},)")
        if bool((torch.as_tensor(task.tokens(batch)) < 1).any()):
            faults.append("tokens are fewer than 1")
        yield all_of("losses are finite, one an example, and have a gradient", faults)
        yield all_of("log_probs are those of a distribution", improper(task, outputs, batch))
        yield all_of(
            "what is observed is finite, one an example, and fits the losses", misobserved(task, outputs, batch)
        )
    yield all_of("another target is never the true one", mistaken(task, data, splits))


def per_example(values: Any, rows: int) -> bool:
    """Whether these are finite numbers, one an example."""
    return isinstance(values, Tensor) and values.shape == (rows,) and bool(torch.isfinite(values).all())


def describe(values: Any) -> str:
    """Type, shape and range of a tensor."""
    if not isinstance(values, Tensor):
        return type(values).__name__
    return f"{values.dtype} {tuple(values.shape)} in {float(values.min()):g}..{float(values.max()):g}"


def improper(task: Task, outputs: Any, batch: Batch) -> list[str]:
    """What is wrong with the log-probabilities, or, where the task has none, with its divergence."""
    try:
        log_probs = task.log_probs(outputs, batch)
    except MubenchError:
        apart = task.divergence(outputs, outputs, batch)
        same = isinstance(apart, Tensor) and apart.shape == (len(batch),) and bool((apart == 0).all())
        return [] if same else ["there are none, and divergence of a network from itself is not 0, one an example"]
    if log_probs.dim() not in (2, 3) or len(log_probs) != len(batch):
        return [f"they are {describe(log_probs)}, expected ({len(batch)}, K) or ({len(batch)}, T, K)"]
    total = log_probs.exp().sum(-1)
    return [] if torch.allclose(total, torch.ones_like(total), atol=1e-3) else ["probabilities do not sum to 1"]


def misobserved(task: Task, outputs: Any, batch: Batch) -> list[str]:
    """What is wrong with the observations. All but the loss may be NaN throughout, where the task cannot say."""
    seen = task.observe(outputs, batch)
    names = ("loss", "correct", "confidence", "entropy")
    faults = [f"{name!r} is missing" for name in names if name not in seen]
    for name in [name for name in names if name in seen]:
        values = seen[name]
        unknown = name != "loss" and values.shape == (len(batch),) and bool(values.isnan().all())
        if not unknown and not per_example(values, len(batch)):
            faults.append(f"{name!r} is {describe(values)}, expected finite ({len(batch)},)")
        elif name == "correct" and not unknown and not bool(((values >= 0) & (values <= 1)).all()):
            faults.append("'correct' lies outside [0, 1]")
        elif name == "entropy" and not unknown and bool((values < -1e-6).any()):
            faults.append("'entropy' is negative")
    if isinstance(task, Classification) and not faults and not bool(seen["correct"].isnan().any()):
        right = task.log_probs(outputs, batch).argmax(-1) == batch["labels"]
        if bool((seen["correct"].double() != right.double()).any()):
            faults.append("'correct' is not whether the likeliest class is the true one")
    if not faults and not torch.allclose(seen["loss"].double(), task.losses(outputs, batch).double(), atol=1e-3):
        faults.append("'loss' is not what losses says")
    return faults


def mistaken(task: Task, data: UnlearningData, splits: Splits) -> list[str]:
    """What is wrong with the targets that ``relabel`` gives."""
    batch = data.batch(data.rows("forget"), places(splits.train))
    before = {name: column.clone() for name, column in batch.columns.items()}
    faults = []
    # Random draws, and both ends of [0, 1).
    draws = [torch.rand(len(batch), generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    for draw in [*draws, torch.zeros(len(batch)), torch.full((len(batch),), 1 - 2**-24)]:
        for keep_true in (False, True):
            new, again = (task.relabel(batch, draw, keep_true) for _ in range(2))
            changed = [name for name in before if not torch.equal(new[name], before[name])]
            if not keep_true:
                kept = sum(_same_target(task, before, new.columns, row) for row in range(len(batch)))
                faults += [f"{kept} of {len(batch)} examples keep their true target"] if kept else []
            if any(not torch.equal(new[name], again[name]) for name in changed):
                faults.append("the same draw gives another target the second time")
            if isinstance(task, Classification) and (set(changed) - {"labels"} or mislabelled(task, "D", _of(new))):
                faults.append(f"a new label lies outside 0..{task.classes - 1}, or more than labels is changed")
    faults += ["the batch itself is changed"] * any(not torch.equal(batch[name], before[name]) for name in before)
    return list(dict.fromkeys(faults))


def _of(batch: Batch) -> Examples:
    return Examples({"labels": batch["labels"]}, batch["index"])


def _same_target(task: Task, before: Columns, after: Columns, row: int) -> bool:
    one, two = (
        [int(columns[name][row]) for name in ("labels", "target", "picture") if name in columns]
        for columns in (before, after)
    )
    if isinstance(task, TextTask) and "target" in before:
        return task.texts.content[one[-1]] == task.texts.content[two[-1]]
    return one == two
