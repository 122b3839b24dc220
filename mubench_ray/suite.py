"""The suite: what a user writes in YAML, validated, with errors that name the file, the key, the value and the choices."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from mubench_ray.errors import MubenchError, SuiteError, did_you_mean
from mubench_ray.forget import SAMPLERS, Sampler
from mubench_ray.forget.from_file import FromFile
from mubench_ray.methods import METHODS, Method
from mubench_ray.metrics.base import reads
from mubench_ray.models import MODELS
from mubench_ray.observations import OBSERVATIONS
from mubench_ray.registry import load_plugin
from mubench_ray.search import OBJECTIVES, check_objectives
from mubench_ray.tasks import TASKS
from mubench_ray.trial import CONTROLS, Budget, Unlearning

#: The paper's defaults (MU-Bench, arXiv 2406.14796).
RATIOS = [float(r) for r in range(1, 11)]
SEEDS = [42, 87, 21, 100, 13]
LRS = [1e-5, 5e-5, 1e-4, 5e-4]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _tuned(value: Any) -> Any:
    """``true``, ``where-known``, a file or a list of files as keys of Tuned; ``false`` stays."""
    if value is True or value == "where-known":
        return {} if value is True else {"missing": "given"}
    return {"files": value} if isinstance(value, str | list) else value


Listed = BeforeValidator(_listed)
Named = BeforeValidator(_named)
Ratio = Annotated[float, Field(gt=0, lt=100)]
Rate = Annotated[float, Field(gt=0)]
#: What numpy and scikit-learn take as a seed.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Part(BaseModel):
    """A part of a suite: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TaskEntry(Part):
    """A task, perhaps cut down to ``subset`` training examples, perhaps with only some of the suite's ``models``."""

    name: str
    subset: int | None = Field(default=None, ge=10)
    models: Annotated[list[str], Listed] | None = None

    @field_validator("models")
    @classmethod
    def _known_models(cls, models: list[str] | None) -> list[str] | None:
        return models and [MODELS.canonical(name) for name in models]

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return TASKS.canonical(name)


class ModelEntry(Part):
    """A model, perhaps with its own training (keys of Training), perhaps from a checkpoint.

    ``pretrained: true`` takes the published weights, a text a folder or ``id@revision`` of the hub. ``original``, a folder or ``id@revision``, is a
    network that was trained on the task elsewhere: it is the original, and only retrains are trained here, from ``pretrained``.
    """

    name: str
    #: Processes that share each of its trials and trainings; None takes ``resources.workers``.
    workers: int | None = Field(default=None, ge=1)
    pretrained: bool | str = False
    original: str | None = None
    training: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return MODELS.canonical(name)

    @property
    def checkpoint(self) -> str | None:
        """What the trial says of it: None, ``published``, a folder or an id."""
        return self.pretrained if isinstance(self.pretrained, str) else "published" if self.pretrained else None


class Tuned(Part):
    """Settings that a search found earlier (``mubench tuned``): those of ``files``, then those that come with the package.

    Where there are none for a method it is refused or, with ``missing: given`` (``tuned: where-known``), runs as the suite gives it.
    """

    files: Annotated[list[str], Listed] = []
    missing: Literal["refuse", "given"] = "refuse"


class MethodEntry(BaseModel):
    """A method; every further key is one of its hyperparameters. ``lrs`` replaces the suite's grid for it, ``tuned`` what the suite says of tuned settings."""

    model_config = ConfigDict(extra="allow")

    name: str
    lrs: Annotated[list[Rate], Listed] | None = None
    tuned: Annotated[Tuned | Literal[False] | None, BeforeValidator(_tuned)] = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return METHODS.canonical(name)

    def configured(self) -> Method:
        """The method with its hyperparameters; raises MubenchError."""
        return METHODS.get(self.name).configure(self.model_extra or {})


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


#: What the two papers do.
PRESETS: dict[str, dict[str, Any]] = {
    "mu_bench": {"strategy": "grid", "trials": None, "hyperparameters": "lr"},
    "deep_unlearn": {"strategy": "optuna", "trials": 100, "sweeps": 3},
}


class Search(Part):
    """A search on equal terms before the reported trials: the same number of configurations for every method, on seeds that are not reported.

    ``preset`` fills in what a paper does: ``mu_bench`` (the best learning rate of the grid) or ``deep_unlearn`` (3 sweeps of 100 configurations).
    """

    preset: Literal["mu_bench", "deep_unlearn"] | None = None
    strategy: Literal["grid", "random", "optuna"] = "random"
    #: Configurations a sweep and method; None takes the whole grid.
    trials: int | None = Field(default=20, ge=1)
    sweeps: int = Field(default=1, ge=1)
    #: Selection seeds: every configuration is tried with each (its original and retrain are trained with it too).
    seeds: Annotated[list[Seed], Listed] = Field(default=[1001], min_length=1)
    #: What is searched: ``all``, ``lr``, or names of hyperparameters; what the suite sets by hand is never searched.
    hyperparameters: str | list[str] = "all"
    #: Metrics with their weights; never one that reads D_Test.
    objectives: dict[str, float] = OBJECTIVES
    #: Values of a continuous range in a grid, and configurations that Optuna is asked for at a time.
    points: int = Field(default=3, ge=2)
    generation: int = Field(default=10, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, content: Any) -> Any:
        preset = PRESETS.get(content.get("preset") or "", {}) if isinstance(content, dict) else {}
        return {**preset, **content} if preset else content

    @field_validator("objectives")
    @classmethod
    def _usable(cls, objectives: dict[str, float]) -> dict[str, float]:
        return check_objectives(objectives)

    @model_validator(mode="after")
    def _counted(self) -> Search:
        if self.trials is None and self.strategy != "grid":
            raise ValueError("trials: only a grid may leave the number of configurations open")
        return self


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
    lrs: Annotated[list[Rate], Listed] = Field(default=LRS, min_length=1)
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
        return content | {"observations": [*_listed(content.get("observations") or []), *entries]}

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
        for plugin in _listed(content.get("plugins") or []):
            load_plugin(plugin)
        suite = Suite.model_validate(content)
    except MubenchError as error:
        raise SuiteError(f"{where}: {error}") from error
    except ValidationError as error:
        raise SuiteError("\n".join(f"{where}: {_explain(fault)}" for fault in error.errors())) from None
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
        check_search(suite, suite.search, where)
    if suite.halves:
        check_halves(suite, where)
    check_tuned(suite, where)
    for number, entry in enumerate(suite.methods):
        try:
            entry.configured()
        except MubenchError as error:
            raise SuiteError(f"{where}: methods[{number}]: {error}") from error
    return suite


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


def check_search(suite: Suite, search: Search, where: str) -> None:
    """Raises SuiteError where a search would see what is reported, or cannot be."""
    reported = {*suite.seeds, *(suite.training_seeds or [])}
    if shared := sorted(reported & set(search.seeds)):
        raise SuiteError(
            f"{where}: search.seeds: {shared[0]} is a reporting seed too; selection needs seeds of its own."
        )
    looked_at = {entry.name for entry in suite.observations}
    for objective in search.objectives:
        for name, kind in OBSERVATIONS:
            if kind.asked and name not in looked_at and any(map(kind.is_given, reads(objective))):
                raise SuiteError(
                    f"{where}: search.objectives: {objective} reads what observation {name} gives, which the suite does not ask for: name it under "
                    "observations, or take another objective."
                )
    if suite.sequence:
        raise SuiteError(
            f"{where}: search: a sequence of deletions cannot be searched; tune the method without it first."
        )
    for number, entry in enumerate(suite.methods):
        for other in suite.methods[:number]:
            ours, theirs = entry.model_extra or {}, other.model_extra or {}
            if other.name == entry.name and not any(ours[key] != theirs[key] for key in ours.keys() & theirs.keys()):
                raise SuiteError(
                    f"{where}: methods[{number}]: a search may choose the same for both entries of {entry.name}: give one hyperparameter another value in "
                    "each, or tune them in suites of their own."
                )
    given = search.hyperparameters
    for name in [] if given in ("all", "lr") else [given] if isinstance(given, str) else given:
        if name != "lr" and not any(name in METHODS.get(entry.name).spaces() for entry in suite.methods):
            raise SuiteError(f"{where}: search.hyperparameters: no method of the suite has {name!r}.")


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
    for part in fault["loc"]:
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
