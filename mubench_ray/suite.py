"""The suite: what a user writes in YAML, validated, with errors that name the file, the key, the value and the choices."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from mubench_ray.errors import MubenchError, SuiteError, did_you_mean
from mubench_ray.forget import SAMPLERS, Sampler
from mubench_ray.forget.from_file import FromFile
from mubench_ray.methods import METHODS, LearningRate, Method
from mubench_ray.models import MODELS
from mubench_ray.observations import OBSERVATIONS
from mubench_ray.registry import Registry, load_plugin
from mubench_ray.schema import Listed, Named, Part, Rate, Ratio, Seed, listed
from mubench_ray.search import options_of
from mubench_ray.search_schema import Search, check_search, set_by_preset
from mubench_ray.tasks import TASKS
from mubench_ray.trial import CONTROLS, DECLARED, Budget, Unlearning, canonical, own_name

#: The paper's defaults (MU-Bench, arXiv 2406.14796).
RATIOS = [float(r) for r in range(1, 11)]
SEEDS = [42, 87, 21, 100, 13]
LRS = [1e-5, 5e-5, 1e-4, 5e-4]


#: Tags of what learning rates are: no parts of a key, and said in no message.
OWN, GRID = "each method's own", "a grid"


def _which_rates(value: Any) -> str:
    """A text that is no number can only be meant as ``default``."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return OWN
    return GRID


#: A grid, or ``default``: of every method its own.
Rates = Annotated[
    Annotated[Literal["default"], Tag(OWN)] | Annotated[list[Rate], Listed, Field(min_length=1), Tag(GRID)],
    Discriminator(_which_rates),
]


def _tuned(value: Any) -> Any:
    """``true``, ``where-known``, a file or a list of files as keys of Tuned; ``false`` stays."""
    if value is True or value == "where-known":
        return {} if value is True else {"missing": "given"}
    return {"files": value} if isinstance(value, str | list) else value


class Opened(Part):
    """An entry whose name a family may open: its options then stand beside the name, and are a part of it from here on."""

    name: str

    @property
    def label(self) -> str:
        """What it is called wherever it is shown."""
        return own_name(self.name)


def _opened(registry: Registry[Any], entry: type[Opened], content: Any) -> Any:
    """What a suite says of an entry, with the options of what its family opens moved into the name."""
    if not isinstance(content, dict) or not isinstance(name := content.get("name"), str):
        return content
    family = registry.family(name)
    if family is None or family.options is None or ":" in name:
        return content
    own = {key: value for key, value in content.items() if key not in entry.model_fields}
    if own:
        name = f"{family.name}:{canonical(own)}"
    return {key: value for key, value in content.items() if key not in own} | {"name": name}


class TaskEntry(Opened):
    """A task, perhaps cut down to ``subset`` training examples, perhaps with only some of the suite's ``models``; one on data of one's own with the options
    of its family.

    ``validation: test-half`` trains on all of the data's training list: D_V is one half of the test set, D_Test the other. Without it D_V is what the task
    sets apart, of most 15 % of the training list.
    """

    subset: int | None = Field(default=None, ge=10)
    validation: Literal["test-half"] | None = None
    models: Annotated[list[str], Listed] | None = None

    @model_validator(mode="before")
    @classmethod
    def _own(cls, content: Any) -> Any:
        return _opened(TASKS, cls, content)

    @field_validator("models")
    @classmethod
    def _known_models(cls, models: list[str] | None) -> list[str] | None:
        return models and [MODELS.canonical(name) for name in models]

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return TASKS.canonical(name)


class ModelEntry(Opened):
    """A model, perhaps with its own training (keys of Training), perhaps from a checkpoint.

    ``pretrained: true`` takes the published weights, a text a folder or ``id@revision`` of the hub. ``original``, a folder or ``id@revision``, is a
    network that was trained on the task elsewhere: it is the original, and only retrains are trained here, from ``pretrained``, which is what the
    original's own training started from. ``saw`` says what the original has seen: ``train``, all of the data's training list (D_V must then come from
    elsewhere: ``validation: test-half`` of the task), or ``D`` alone, as it is taken unless said. ``original_from: random`` says that its training
    started from random weights, as its retrain does then; else a retrain without ``pretrained`` is marked as on unequal terms.
    """

    #: Processes that share each of its trials and trainings; None takes ``resources.workers``.
    workers: int | None = Field(default=None, ge=1)
    pretrained: bool | str = False
    original: str | None = None
    saw: Literal["train", "D"] | None = None
    original_from: Literal["random", "pretrained"] | None = None
    training: dict[str, Any] = {}

    @model_validator(mode="after")
    def _declares_an_original(self) -> ModelEntry:
        for name in DECLARED:
            if self.original is None and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} says something of an original that was trained elsewhere: name it as `original`"
                )
        if self.original_from == "random" and self.pretrained:
            raise ValueError(
                "original_from: random and pretrained: the retrain would start from more than its original did"
            )
        if self.original_from == "pretrained" and not self.pretrained:
            raise ValueError(
                "original_from: pretrained: name what it started from as `pretrained`, for the retrain to start from that"
            )
        return self

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return MODELS.canonical(name)

    @property
    def checkpoint(self) -> str | None:
        """What the trial says of it: None, ``published``, a folder (of a network that lies in one, that: its weights are a part of ids) or an id."""
        if self.pretrained is not True:
            return self.pretrained or None
        return MODELS.get(self.name).published_at or "published"


class Tuned(Part):
    """Settings that a search found earlier (``mubench tuned``): those of ``files``, then those that come with the package.

    Where there are none for a method it is refused or, with ``missing: given`` (``tuned: where-known``), runs as the suite gives it.
    """

    files: Annotated[list[str], Listed] = []
    missing: Literal["refuse", "given"] = "refuse"


class MethodEntry(BaseModel):
    """A method; every further key is one of its hyperparameters, or of ``batch_size``, ``weight_decay`` and ``optimizer`` in the place of ``unlearning``'s.
    ``lrs`` replaces the suite's learning rates for it, ``tuned`` what the suite says of tuned settings."""

    model_config = ConfigDict(extra="allow")

    name: str
    lrs: Rates | None = None
    tuned: Annotated[Tuned | Literal[False] | None, BeforeValidator(_tuned)] = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return METHODS.canonical(name)

    @property
    def options(self) -> dict[str, Any]:
        """The options of the trial that are set beside it; raises MubenchError."""
        return options_of(METHODS.get(self.name), self.model_extra or {})

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What else is set beside it."""
        options = self.options
        return {name: value for name, value in (self.model_extra or {}).items() if name not in options}

    def configured(self) -> Method:
        """The method with its hyperparameters; raises MubenchError."""
        return METHODS.get(self.name).configure(self.hyperparameters)


class ObservationEntry(BaseModel):
    """An observation that trials are looked at for beside what every trial is; every further key is one of its options."""

    model_config = ConfigDict(extra="allow")

    name: str

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        name = OBSERVATIONS.canonical(name)
        if not OBSERVATIONS.get(name).asked:
            raise ValueError("every trial is looked at for it already: leave it out")
        return name

    @model_validator(mode="after")
    def _has_options(self) -> ObservationEntry:
        OBSERVATIONS.get(self.name)(**self.options)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options that are set."""
        return self.model_extra or {}


class SamplerEntry(BaseModel):
    """A sampler of forget sets; every further key is one of its options."""

    model_config = ConfigDict(extra="allow")

    name: str = "class_balanced"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return SAMPLERS.canonical(name)

    def configured(self) -> Sampler:
        """The sampler with its options; raises MubenchError."""
        return SAMPLERS.get(self.name).configure(self.model_extra or {})


class Resources(Part):
    """What one worker of a trial takes, how many workers share a trial, and how many trials may run at a time (as many as fit, unless said).

    None of it changes a trial's identity: the batches and the result are those of one worker. A trial saves itself every ``checkpoint_seconds``.
    """

    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)
    concurrency: int | None = Field(default=None, ge=1)
    workers: int = Field(default=1, ge=1)
    #: Whether each worker holds the whole network or, for one that does not fit, a piece of it (torch's FSDP).
    sharding: Literal["replicated", "fsdp"] = "replicated"
    checkpoint_seconds: float = Field(default=300.0, gt=0)
    #: A process in which nothing got done for so many seconds (no step, no batch evaluated) hangs: it is ended, and the trial tried once more.
    watchdog: float | None = Field(default=3600.0, gt=0)
    #: How long a cluster that was joined may take to start the first node that a trial fits on.
    wait_for_nodes: float = Field(default=900.0, ge=0)


class Suite(Part):
    """A benchmark: tasks x models x methods x ratios x seeds x learning rates, and how they run."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    tasks: Annotated[list[Annotated[TaskEntry, Named]], Listed] = Field(min_length=1)
    #: Models for every task that does not name its own.
    models: Annotated[list[Annotated[ModelEntry, Named]], Listed] = []
    methods: Annotated[list[Annotated[MethodEntry, Named]], Listed] = Field(min_length=1)
    #: Percent of D to forget; none where the sampler takes a whole that the data gives (a class), whose ratio is what it is.
    ratios: Annotated[list[Ratio], Listed] = RATIOS
    seeds: Annotated[list[Seed], Listed] = Field(default=SEEDS, min_length=1)
    #: Learning rates that every method runs at, or ``default``: each at its own for the trial's optimiser, and a search goes through its own range.
    lrs: Rates = LRS
    #: The ratios are steps of one sequence of deletions (2, 4, 6: forget 2 %, then 2 % more, then 2 % more), a row a step.
    sequence: bool = False
    sampler: Annotated[SamplerEntry, Named] = SamplerEntry()
    forget_seeds: Annotated[list[Seed], Listed] = [42]
    #: Seeds of originals and retrains; None trains one for each trial seed.
    training_seeds: Annotated[list[Seed], Listed] | None = None
    #: A pool of shadow models for attacks on single examples (U-LiRA): so many networks, each trained on its own random half of the training set,
    #: in place of ``training_seeds``. Deep Unlearn has 64 halves with 10 forget seeds each.
    halves: int | None = Field(default=None, ge=2, multiple_of=2)
    training: dict[str, Any] = {}
    unlearning: Unlearning = Unlearning()
    budget: Budget = Budget()
    #: What trials are looked at for beside what every trial is (relearning, the knowledge gap): off the clock, and no part of a trial's identity, so that
    #: one added later is made for the trials that are there already.
    observations: Annotated[list[Annotated[ObservationEntry, Named]], Listed] = []
    #: Which unlearned networks are kept beside the artifacts, so that a later observation need not unlearn again.
    keep: Literal["none", "adapters", "all"] = "none"
    #: Tunes every method before its trials are run; without it each runs at its own hyperparameters and every learning rate of ``lrs``.
    search: Search | None = None
    #: Runs every method at settings that a search found earlier: ``true`` for those that come with the package, a file for one's own, ``where-known`` for
    #: those that there are, or the keys of Tuned.
    tuned: Annotated[Tuned | Literal[False] | None, BeforeValidator(_tuned)] = None
    resources: Resources = Resources()
    data_dir: str | None = None
    plugins: Annotated[list[str], Listed] = []
    mlflow_uri: str | None = None
    _notes: list[str] = PrivateAttr(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What is to be known of what the file says, a line each, for whoever plans it."""
        held = ["frozen: bf16 rounds originals and retrains; in memory they still take four bytes a weight"]
        return [
            *self._notes,
            *held * (self.unlearning.frozen == "bf16"),
            *(note for model in self.models for note in undeclared(model)),
        ]

    @model_validator(mode="before")
    @classmethod
    def _without_probes(cls, content: Any) -> Any:
        """``probes`` of earlier releases, as the observations that they are now."""
        if not isinstance(content, dict) or not isinstance(probes := content.get("probes"), dict):
            return content
        known = {"relearning": "relearn_benign", "knowledge_gap": "knowledge_gap"}
        if unknown := [name for name in probes if name not in known]:
            raise ValueError(f"probes.{unknown[0]}: unknown. Name it under observations.")
        entries = [
            {"name": known[name], **(options if isinstance(options, dict) else {})}
            for name, options in probes.items()
            if options
        ]
        content = {name: value for name, value in content.items() if name != "probes"}
        return content | {"observations": [*listed(content.get("observations") or []), *entries]}

    def rate_of(self, entry: MethodEntry) -> LearningRate | None:
        """The method's own learning rate and its range, where the suite asks for those."""
        own, optimizer = (
            METHODS.get(entry.name).learning_rates,
            entry.options.get("optimizer", self.unlearning.optimizer),
        )
        return own[optimizer] if own and (entry.lrs or self.lrs) == "default" else None

    def lrs_of(self, entry: MethodEntry) -> list[float | None]:
        """The learning rates that a method runs at; one None where it takes no gradient steps."""
        if not METHODS.get(entry.name).uses_lr:
            return [None]
        own, given = self.rate_of(entry), entry.lrs or self.lrs
        return [own.default] if own else [float(lr) for lr in given]

    def tuned_for(self, entry: MethodEntry) -> Tuned | None:
        """Where a method's tuned settings come from; None where it runs as the suite gives it, as a control always does."""
        said = self.tuned if entry.tuned is None else entry.tuned
        return said or None if entry.name not in CONTROLS else None

    def workers_of(self, model: str) -> int:
        """How many processes share a trial of this model: all entries of the model say the same."""
        own = [entry.workers for entry in self.models if entry.name == model and entry.workers]
        return own[0] if own else self.resources.workers

    def models_of(self, task: TaskEntry) -> list[ModelEntry]:
        """The models of a task: all of the suite's or, where the task names its own, every entry of the suite with such a name (a plain one where there is
        none)."""
        if task.models is None:
            return self.models
        named = [
            [model for model in self.models if model.name == name] or [ModelEntry(name=name)] for name in task.models
        ]
        return [model for entries in named for model in entries]


def load_suite(path: str | Path) -> Suite:
    """Read and validate a suite file; raises SuiteError with one line a fault."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}, column {where.column + 1}" if where else ""
        raise SuiteError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}.") from error
    if not isinstance(content, dict):
        raise SuiteError(
            f"{path}: a suite is a mapping with at least name, tasks, models and methods; this is {type(content).__name__}."
        )
    return make_suite(content, str(path))


def only(suite: Suite, methods: Iterable[str]) -> Suite:
    """The suite with its controls and these of its methods, all of them where none is named; raises SuiteError for one that it has not."""
    wanted = {METHODS.canonical(name) for name in methods}
    there = {entry.name for entry in suite.methods}
    if absent := sorted(wanted - there):
        raise SuiteError(f"{suite.name} has no method {absent[0]!r}. {did_you_mean(absent[0], there)}")
    kept = [entry for entry in suite.methods if not wanted or entry.name in {*wanted, *CONTROLS}]
    return suite.model_copy(update={"methods": kept})


def make_suite(content: dict[str, Any], where: str = "suite") -> Suite:
    """Validate a suite given as a mapping; relative plugin, list and data paths count from the current folder."""
    try:
        for plugin in listed(content.get("plugins") or []):
            load_plugin(plugin)
        suite = Suite.model_validate(content)
    except MubenchError as error:
        raise SuiteError(f"{where}: {error}") from error
    except ValidationError as error:
        raise SuiteError("\n".join(f"{where}: {_explain(fault)}" for fault in error.errors())) from None
    suite._notes += earlier_names(content)
    suite = check_sampler(suite, where)
    for number, task in enumerate(suite.tasks):
        if not task.models and not suite.models:
            raise SuiteError(f"{where}: tasks[{number}]: no models: name them in the suite or beside the task.")
    check_entries(suite, where)
    for entry in suite.models:
        if (workers := suite.workers_of(entry.name)) > 1 and 0 < suite.resources.gpus < 1:
            gpus = f"resources.gpus = {suite.resources.gpus:g}"
            raise SuiteError(f"{where}: {workers} workers of {entry.name} need whole devices; {gpus} shares one.")
    if suite.keep == "adapters" and suite.unlearning.lora is None:
        raise SuiteError(
            f"{where}: keep: adapters keeps what LoRA trains, and unlearning.lora is not set; use all or none."
        )
    if suite.search:
        suite = suite.model_copy(update={"methods": [preset(suite.search, entry) for entry in suite.methods]})
    check_tuned(suite, where)
    for number, entry in enumerate(suite.methods):
        try:
            entry.configured()
        except MubenchError as error:
            raise SuiteError(f"{where}: methods[{number}]: {error}") from error
    if suite.search:
        check_searched(suite, suite.search, where)
    if suite.halves:
        check_halves(suite, where)
    return suite


def undeclared(model: ModelEntry) -> list[str]:
    """What a suite does not say of an original that was trained elsewhere, a line each."""
    if model.original is None:
        return []
    found = []
    if model.saw is None:
        found.append(
            "what its original has seen is not said, and taken to be D alone: if it was all of the training list, say saw: train"
        )
    if not model.pretrained and model.original_from is None:
        found.append(
            "its retrain starts from random weights and is marked as on unequal terms: name what the original was fine-tuned from as pretrained, or say "
            "original_from: random"
        )
    return [f"{model.label}: {text}" for text in found]


def earlier_names(content: dict[str, Any]) -> list[str]:
    """A line where a suite calls ``precision`` what is ``compute`` today."""
    models = [entry for entry in listed(content.get("models") or []) if isinstance(entry, dict)]
    parts = {"training": content, "unlearning": content} | {f"training of {m.get('name')}": m for m in models}
    found = [
        where
        for where, part in parts.items()
        if isinstance(options := part.get(where.split()[0]), dict) and "precision" in options
    ]
    if not found:
        return []
    return [f"precision is called compute now, and is taken as that ({', '.join(found)}): ids stay as they were"]


def check_entries(suite: Suite, where: str) -> None:
    """Raises SuiteError for an entry that is there twice, and for entries of one model that do not agree on its workers."""
    for kind in ("tasks", "models", "methods", "observations"):
        entries = getattr(suite, kind)
        for number, entry in enumerate(entries):
            if entry in entries[:number]:
                first = entries.index(entry)
                raise SuiteError(
                    f"{where}: {kind}[{number}] is {kind}[{first}] ({entry.name}) once more, with nothing that differs: remove one."
                )
    for number, entry in enumerate(suite.models):
        own = [other.workers or suite.resources.workers for other in suite.models if other.name == entry.name]
        if len(set(own)) > 1:
            raise SuiteError(
                f"{where}: models[{number}]: the entries of {entry.name} have {' and '.join(map(str, own))} workers: give them the same number, since "
                "workers go by the model's name."
            )


def check_sampler(suite: Suite, where: str) -> Suite:
    """The suite with the ratios that its sampler leaves to choose: none where it takes a whole that the data gives, and they are left out.

    Raises SuiteError for options that the sampler has not, and for ratios and seeds that would give the same forget set twice.
    """
    try:
        sampler = suite.sampler.configured()
    except MubenchError as error:
        raise SuiteError(f"{where}: sampler: {error}") from error
    if sampler.whole and "ratios" not in suite.model_fields_set:
        suite = suite.model_copy(update={"ratios": []})
    if not suite.ratios and not sampler.whole:
        raise SuiteError(f"{where}: ratios: name at least one, in percent of the training set.")
    if suite.sequence and isinstance(sampler, FromFile) and Path(sampler.path).is_dir():
        raise SuiteError(
            f"{where}: sequence: {sampler.path} holds a list for each ratio, and the steps of a sequence go on in one list: name one."
        )
    if len(suite.forget_seeds) > 1 and not sampler.random:
        raise SuiteError(
            f"{where}: forget_seeds: sampler {sampler.name} draws nothing at random, and {len(suite.forget_seeds)} seeds are the same set so many times: "
            "name one."
        )
    return suite


def preset(search: Search, entry: MethodEntry) -> MethodEntry:
    """The entry, with what the search's preset sets beside it."""
    added = set_by_preset(search, entry.name, entry.model_extra or {})
    return MethodEntry.model_validate(entry.model_dump() | added) if added else entry


def check_searched(suite: Suite, search: Search, where: str) -> None:
    """Raises SuiteError where a search would see what is reported, or cannot be."""
    if suite.sequence:
        raise SuiteError(
            f"{where}: search: a sequence of deletions cannot be searched; tune the method without it first."
        )
    methods = [(entry.name, entry.model_extra or {}) for entry in suite.methods]
    reported, observed = {*suite.seeds, *(suite.training_seeds or [])}, {entry.name for entry in suite.observations}
    check_search(search, where, methods, reported, observed, suite.unlearning)


def check_halves(suite: Suite, where: str) -> None:
    """Raises SuiteError for what a pool of shadow models cannot be combined with."""
    originals = any(model.original for task in suite.tasks for model in suite.models_of(task))
    wrong = {
        "training_seeds": suite.training_seeds and "every half trains its own model",
        "sequence": suite.sequence and "a shadow model forgets once",
        "original of a model": originals and "each half trains its own",
        "search": suite.search and "tune the methods in a suite of its own and give their hyperparameters here",
        "sampler": suite.sampler.name == "from_file"
        and "a list of ids lies in no random half; draw forget sets from seeds",
        "a whole that the data gives": suite.sampler.configured().whole
        and "it is another share of every half; ask for a part of it",
    }
    for key, reason in wrong.items():
        if reason:
            raise SuiteError(f"{where}: halves cannot go with {key}: {reason}.")


def check_tuned(suite: Suite, where: str) -> None:
    """Raises SuiteError for tuned settings beside a search, or beside learning rates that are set by hand."""
    for number, entry in enumerate(suite.methods):
        if suite.tuned_for(entry) is None:
            continue
        if suite.search:
            raise SuiteError(
                f"{where}: methods[{number}]: {entry.name} is both searched and to run at tuned settings: leave search or tuned out."
            )
        if entry.lrs:
            raise SuiteError(
                f"{where}: methods[{number}]: lrs of {entry.name} are set by hand, and its tuned settings have a learning rate: leave lrs out, or say "
                "`tuned: false` beside it."
            )


def _explain(fault: ErrorDetails) -> str:
    """One pydantic fault as: key = value: what is wrong."""
    key = ""
    for part in (part for part in fault["loc"] if part not in (OWN, GRID)):
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        owner = {
            "tasks": TaskEntry,
            "models": ModelEntry,
            "unlearning": Unlearning,
            "budget": Budget,
            "resources": Resources,
            "search": Search,
            "tuned": Tuned,
        }
        known = owner.get(str(fault["loc"][0]), Suite) if len(fault["loc"]) > 1 else Suite
        return f"{key}: unknown key. {did_you_mean(name, known.model_fields)}"
    if fault["type"] == "missing":
        return f"{key}: is missing."
    message = fault["msg"].removeprefix("Value error, ").removesuffix(".")
    return f"{key} = {fault['input']!r}: {message}."
