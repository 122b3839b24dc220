"""Versions in ids: a trial and its artifacts are other ones where what makes them has changed its outcome.

A method, task, model or sampler declares ``version`` (a method and a model may say for what it holds, ``version_for``), the training loop has LOOP. Version 1
enters no id, so that ids from before there were versions stay. A thing that comes from outside the package enters with a hash of its file's syntax tree:
an edited plugin is another thing, a changed comment is not.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

from mubench_ray.files import sha256
from mubench_ray.forget import SAMPLERS
from mubench_ray.forget.scored import scoring_seed
from mubench_ray.methods import METHODS
from mubench_ray.models import MODELS
from mubench_ray.models.places import NUMBERS, PICKLES, state_file
from mubench_ray.tasks import TASKS
from mubench_ray.training.data import joins
from mubench_ray.trial import CONTROLS, READING, WEIGHTS, ForgetSet, Recipe, Training, Trial, Versions

#: Of the loop, where a set's last batch of one example joins the batch before it (2; before, it was a batch of its own).
LOOP = 2
PACKAGE = __name__.partition(".")[0]


def versioned(trial: Trial) -> Trial:
    """The trial with the versions of what it is made with here and now; of its scoring network, too."""
    found: dict[str, Any] = {"versions": versions_of(trial)}
    if old := trial.forget.scored_by:
        if old.training is None:
            raise ValueError(f"trial {trial.id}: {old.id} is a checkpoint as it is, and scores no sampler's examples")
        given = old.task, old.subset, old.model, old.pretrained, old.training, old.half, old.original_checkpoint
        network = scoring(*given, validation=old.validation)
        found["forget"] = ForgetSet.model_validate(trial.forget.model_dump() | {"scored_by": network.model_dump()})
    if all(getattr(trial, name) == value for name, value in found.items()):
        return trial
    return Trial.model_validate(trial.model_dump() | found)


def scoring(
    task: str,
    subset: int | None,
    model: str,
    pretrained: str | None,
    training: Training,
    half: int | None,
    original: str | None = None,
    *,
    validation: Literal["test-half"] | None = None,
) -> Recipe:
    """The recipe of a network that scores D for samplers: an original with a training seed that no suite can name, as it is made here and now; one that
    reads as the checkpoint ``original`` does, where that is given."""
    seed = scoring_seed(half)
    given = {"task": task, "subset": subset, "model": model, "pretrained": pretrained, "training": training}
    given |= {"original_checkpoint": original, "validation": validation}
    forget = ForgetSet(ratio=1)
    trial = Trial(**given, method="original", forget=forget, seed=0, training_seed=seed, lr=None, half=half)
    return Recipe.model_validate(versioned(trial).trained.model_dump() | {"scoring": True})


def step_before(trial: Trial) -> Trial:
    """The trial that a step of a sequence of deletions goes on from, as it is made here and now; raises ValueError for one that has none."""
    if trial.previous is None:
        raise ValueError(f"trial {trial.id} is no later step of a sequence")
    return versioned(trial.previous)


def versions_of(trial: Trial) -> Versions:
    """The versions above 1, and the hashes of plugins, that decide a trial's outcome."""
    task, method, model = TASKS.get(trial.task), METHODS.get(trial.method), MODELS.get(trial.model)

    def reading(source: str | None) -> int | str:
        return with_weights(version_of(model, model.version_for(task, source is not None)), source)

    found: dict[str, int | str] = {
        "method": version_of(method, method.version_for(task, trial.unlearning)),
        "task": version_of(task, task.version),
        "model": reading(trial.pretrained),
        "sampler": version_of(sampler := SAMPLERS.get(trial.forget.sampler), sampler.version),
        **loop_versions(trial),
    }
    if (original := trial.original_checkpoint) is not None:
        # 1 more than what starts from it: since then a retrain is built and reads as the original does.
        version = version_of(model, model.version_for(task, True) + 1)
        found["checkpoint"] = with_weights(version, original)
        if not is_state_alone(original):
            found["reading"] = with_reading(version, original)
    return {name: version for name, version in found.items() if version != 1}


def with_weights(version: int | str, source: str | None) -> int | str:
    """The version, of a network from a folder or file on this machine with a hash of what lies there: other weights under one path are another network. A hub
    id is fixed by its revision."""
    if source is None:
        return version
    known = _hashes.get()
    known = {} if known is None else known
    if source not in known:
        known[source] = weights_hash(source)
    return version if known[source] is None else f"{version}{WEIGHTS}{known[source]}"


def with_reading(version: int | str, source: str) -> int | str:
    """The version, of a folder on this machine with a hash of all that lies there but weights: what a retrain has of an original."""
    known = _hashes.get()
    known = {} if known is None else known
    key = f"{source}{READING}"
    if key not in known:
        known[key] = weights_hash(source, rest=True)
    return version if known[key] is None else f"{version}{READING}{known[key]}"


def is_state_alone(source: str) -> bool:
    """Whether a checkpoint is a file of weights and nothing else, whose network is the registry's own."""
    file = state_file(source) if Path(source).exists() else None
    return file is not None and not (file.parent / "config.json").is_file()


@contextmanager
def hashing_weights_once() -> Iterator[None]:
    """Within it the weights of a checkpoint on this machine are read once: a plan names them in every trial."""
    token = _hashes.set({})
    try:
        yield
    finally:
        _hashes.reset(token)


_hashes: ContextVar[dict[str, str | None] | None] = ContextVar("hashes", default=None)


def weights_hash(source: str, rest: bool = False) -> str | None:
    """SHA-256, shortened, of all that lies in a folder or file on this machine, with ``rest`` of all but weights; None where ``source`` is none.

    A file of weights with a config beside it, or a tokenizer, counts with its folder.
    """
    path = Path(source.partition("@")[0])
    if not path.exists():
        return None
    if path.suffix != ".gguf" and any((path.parent / name).is_file() for name in BESIDE) and path.is_file():
        files = [path, *sorted(each for each in path.parent.iterdir() if each.suffix in (".json", ".txt", ".model"))]
        path = path.parent
    else:
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    if rest:
        files = [
            file
            for file in files
            if file.suffix not in (*NUMBERS, *PICKLES) and not file.name.endswith((".index.json", ".md"))
        ]
    told = [f"{file.relative_to(path)} {content_hash(str(file), *_stamp(file))}" for file in files]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


#: What makes more of a file of weights than that, where it lies beside it.
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json")


def _stamp(file: Path) -> tuple[int, int]:
    return file.stat().st_size, file.stat().st_mtime_ns


@functools.lru_cache(maxsize=4096)
def content_hash(file: str, size: int, modified: int) -> str:
    """SHA-256 of a file, once for each of its states."""
    return sha256(file)


def version_of(thing: Any, version: int) -> int | str:
    """The version; of what is defined outside the package with the hashes of the files that define it, of its base classes and of all that these import
    and that is somebody's own too."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    owner = thing if isinstance(thing, type) or callable(thing) else type(thing)
    bases = [base.__module__ for base in owner.__mro__] if isinstance(owner, type) else []
    # An instance of a class of ours may be a plugin's all the same.
    modules = dict.fromkeys([getattr(thing, "defined_in", None) or owner.__module__, *filter(is_own_code, bases)])
    hashes = [module_hash(module) for module in with_imports(modules) if module.partition(".")[0] != PACKAGE]
    return ":".join([str(version), *hashes]) if hashes else version


def is_own_code(module: str) -> bool:
    """Whether a module is somebody's own file, not a library's."""
    file = file_of(module)
    return (
        file is not None
        and module.partition(".")[0] not in {*sys.stdlib_module_names, PACKAGE}
        and not {"site-packages", "dist-packages"} & set(file.parts)
    )


def with_imports(modules: Iterable[str]) -> list[str]:
    """The modules, and those of somebody's own that they import, that these import, and so on; each once."""
    found = list(dict.fromkeys(modules))
    for module in found:  # which grows meanwhile
        if module.partition(".")[0] != PACKAGE:
            found += [name for name in imported_by(module) if name not in found]
    return found


@functools.lru_cache(maxsize=256)
def imported_by(module: str) -> tuple[str, ...]:
    """The modules of somebody's own that a module imports anywhere in it, with the packages on the way; sorted."""
    file = file_of(module)
    if file is None or file.suffix != ".py":
        return ()
    names: set[str] = set()
    package = getattr(sys.modules.get(module), "__package__", None) or ""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            start = ".".join(part for part in (base, node.module) if part)
            names |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in names]
    names = {".".join(each[:length]) for each in parts for length in range(1, len(each) + 1)} - {module, ""}
    return tuple(sorted(filter(is_own_code, names)))


def file_of(module: str) -> Path | None:
    """The file of a module, one that is not imported yet (it may be in a function that has not run) looked for without running anything; None for none."""
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
        return Path(file) if file else None
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # of a module that was made by hand
        return None
    for length in range(1, len(inner) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = ".".join([top, *inner[:length]])
        spec = importlib.machinery.PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


@functools.lru_cache(maxsize=256)
def module_hash(module: str) -> str:
    """SHA-256, shortened, of a module's syntax tree; its comments and layout do not enter. Modules that it imports have hashes of their own."""
    file = file_of(module)
    if file is None:
        return "no file"  # typed into a shell: nothing that could be compared
    if file.suffix != ".py":
        return content_hash(str(file), *_stamp(file))[:12]  # compiled
    tree = ast.unparse(ast.parse(file.read_text()))
    return hashlib.sha256(tree.encode()).hexdigest()[:12]


def loop_versions(trial: Trial) -> Versions:
    """LOOP for the kinds of training in which a set of this trial ends with a batch of one example; for all of them where sizes are not known."""
    sizes = sizes_of(trial)
    trained = {"original": ["train"], "retrain": ["retain"]}
    found: Versions = {kind: LOOP for kind, sets in trained.items() if _moved(trial, sizes, sets)}
    draws = METHODS.get(trial.method).configure(trial.hyperparameters).draws_sets
    moved = _moved(trial, sizes, ["retain", "new", "train", "validation"], trial.unlearning.batch_size)
    if trial.method not in CONTROLS and (draws or moved):
        found["unlearning"] = LOOP
    return found


def trained_on(trial: Trial, kind: Literal["forget-only", "validation-only"]) -> Recipe:
    """The recipe of a model of D_F alone or of D_V alone beside a trial, as it is made here and now."""
    part = "forget" if kind == "forget-only" else "validation"
    return trial.trained_on(part, LOOP if _moved(trial, sizes_of(trial), [part]) else 1)


def sizes_of(trial: Trial) -> dict[str, int | None] | None:
    """Numbers of examples of the sets that a trial is trained on, ``new`` what it forgets beyond the step before; None where the plan cannot know them."""
    task = TASKS.get(trial.task)
    train = task.size_of_d(trial.subset, trial.validation)
    train = train // 2 if trial.half is not None else train
    if not train or not SAMPLERS.get(trial.forget.sampler).exact:
        return None
    forgotten = round(train * trial.forget.ratio / 100)
    before = round(train * trial.after[-1] / 100) if trial.after else 0
    # Of the test set each class is halved, and rounded.
    validation = None if trial.validation else task.card.sizes.get("validation", 0)
    sizes = {"train": train, "forget": forgotten, "retain": train - forgotten}
    return sizes | {"new": forgotten - before, "validation": validation}


def _moved(trial: Trial, sizes: dict[str, int | None] | None, sets: list[str], batch: int | None = None) -> bool:
    """Whether a pass over one of the sets ends with a batch of one example, or may do."""
    known = [None if sizes is None else sizes[name] for name in sets]
    return any(size is None or joins(size, batch or trial.training.batch_size) for size in known)
