"""The trial: one frozen point of the benchmark's grid, and the id that is its identity everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

#: Versions of what decides an outcome, by what has them: ``method``, ``task``, ``model``, ``checkpoint`` (the model as it reads
#: ``original_checkpoint``), ``reading`` (what of that decides a retrain: all but its weights), ``sampler``, and for the loop ``unlearning`` and the kinds
#: of artifact. Only those above 1 stand here; of a plugin's things also the hash of its file.
Versions = dict[str, int | str]


class Frozen(BaseModel):
    """A value object: immutable, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def renamed(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a loop as they are called today: ``precision`` of earlier releases is ``compute``. Raises ValueError where both are there and differ."""
    if "precision" not in options:
        return options
    compute = options["precision"]
    if options.get("compute", compute) != compute:
        raise ValueError(
            f"precision is what compute was called, and precision: {compute} says another one: leave it out"
        )
    return {name: value for name, value in options.items() if name != "precision"} | {"compute": compute}


class Precision(Frozen):
    """In what precision a loop computes, and holds what it trains.

    ``compute`` is that of the arithmetic of its steps. ``fp32``: torch's float32, of which the switches of torch decide whether CUDA's convolutions and
    products of matrices take TF32 (convolutions do unless told otherwise; ``compute`` of a row says what they did). ``tf32``: both take it on CUDA; another
    device has none and computes in float32. ``bf16``: autocast. Evaluation is in ``fp32``.
    ``weights`` is that of what trains, and of its gradients and the optimiser's state: float32.
    """

    compute: Literal["fp32", "tf32", "bf16"] = "fp32"
    weights: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, options: Any) -> Any:
        return renamed(options) if isinstance(options, dict) else options

    @field_validator("weights")
    @classmethod
    def _wide_enough(cls, weights: str) -> str:
        if weights == "bf16":
            raise ValueError(
                "a step below 2^-9 of a weight is lost in bf16, and neither stochastic rounding nor compensated summation is here to keep it: leave "
                "weights at fp32; compute: bf16 has the arithmetic in bf16, unlearning.frozen: bf16 what does not train"
            )
        return weights


def _in_ids(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a loop by the names that they have in ids, which are those of the first release."""
    return {"precision" if name == "compute" else name: value for name, value in options.items()}


class Training(Precision):
    """How an original or a retrain is trained from scratch."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    epochs: float = Field(default=10, gt=0)
    batch_size: int = Field(default=32, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    clip: float | None = Field(default=None, gt=0)
    #: Compute activations again in the backward pass, for less memory and a third more FLOs.
    gradient_checkpointing: bool = False

    def identity(self) -> dict[str, Any]:
        """What enters an id: everything, but options that came later only where they are set."""
        later = {"gradient_checkpointing", "weights"}
        unset = {name for name in later if getattr(self, name) == type(self).model_fields[name].default}
        return _in_ids(self.model_dump(exclude=unset))


class Unlearning(Precision):
    """Options of the unlearning loop that are the same for every method (MU-Bench: Adam, batch 32)."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    batch_size: int = Field(default=32, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    schedule: Literal["method", "constant", "cosine", "linear"] = "method"
    clip: float | None = Field(default=None, gt=0)
    #: The precision of what a trial starts from and is compared with: f_O and f_R, as they are once they are trained or read, are rounded to it, and f_U starts
    #: from that f_O. What of them stands still afterwards (the base of LoRA, a method's teachers) has those values; what trains has ``weights``.
    frozen: Literal["fp32", "bf16"] = "fp32"
    #: Lambda of the SuperLoss curriculum (the paper's is 10); None is the plain loss.
    superloss: float | None = Field(default=None, gt=0)
    #: Its tau: the running ``mean`` of all losses seen (MU-Bench's paper), or their sum over that of the ``confidence`` they were given (its code).
    superloss_tau: Literal["mean", "confidence"] = "mean"
    #: Share of parameters that LoRA adapters hold; None trains the network itself.
    lora: float | None = Field(default=None, gt=0, le=1)
    #: Compute activations again in the backward pass, for less memory and a third more FLOs.
    gradient_checkpointing: bool = False


class Budget(Frozen):
    """What a trial may spend, as a share of what its retrain spent.

    ``seconds="auto"`` enforces time only where the clock is clean, on an accelerator that the trial has to itself; on a shared
    machine a time cap would make the same trial end differently from run to run. A number enforces it anywhere.
    """

    flos: float | None = Field(default=1.0, gt=0)
    seconds: float | Literal["auto"] | None = "auto"


class Relearning(Frozen):
    """Of ``Probes``: what is now the observation ``relearn_benign``."""

    steps: int = Field(default=50, ge=1)
    every: int = Field(default=5, ge=1)
    lr: float | None = Field(default=None, gt=0)


class Probes(Frozen):
    """What an earlier release found out about f_U as a part of a trial's identity: observations have taken its place, and only stored trials have it."""

    relearning: Relearning | None = None
    knowledge_gap: bool = False


class ForgetSet(Frozen):
    """How D_F is drawn: a named sampler, its options and the seed of the draw.

    ``scored_by``, of a sampler that reads the scores of a network, is the recipe of that network: the same for all training seeds, and never f_O.
    """

    sampler: str = "class_balanced"
    ratio: float = Field(gt=0, lt=100)
    seed: int = 42
    options: dict[str, Any] = Field(default_factory=dict)
    scored_by: Recipe | None = None

    @property
    def drawn_from(self) -> dict[str, Any]:
        """What decides the draw beside sampler, ratio and seed: a file counts by its content's hash, not by where it lies, a network by its recipe."""
        found = {key: value for key, value in self.options.items() if key != "path"}
        return found | ({"scored_by": self.scored_by.id} if self.scored_by else {})


def digest(content: Any, length: int = 16) -> str:
    """SHA-256 over canonical JSON, shortened: equal content, equal digest, in any process and on any machine."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:length]


class Recipe(Frozen):
    """What an artifact is made from: a task, a model, its training and, for a retrain, the forget set left out.

    Without ``training`` it is the checkpoint as it is. With ``original_checkpoint`` it is that (without ``training``), or is built and reads as that does,
    and training starts from random weights or from ``pretrained``. ``scoring`` makes it a network that no trial starts from: it scores D for a sampler of
    forget sets.
    """

    task: str
    subset: int | None = None
    validation: Literal["test-half"] | None = None
    model: str
    pretrained: str | None = None
    original_checkpoint: str | None = None
    training: Training | None
    seed: int
    forget: ForgetSet | None = None
    half: int | None = None
    #: Rounded to this once it is trained: what a trial names as ``unlearning.frozen``.
    frozen: Literal["bf16"] | None = None
    on: Literal["forget", "validation"] | None = None
    scoring: Literal[True] | None = None
    #: Those of the task, the model, the sampler and, as ``training``, of the loop.
    versions: Versions = Field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """The kind and a hash of the recipe, ``original-...`` say."""
        content = {**self.model_dump(exclude_none=True), "forget": _identity(self.forget)}
        content |= {"task": own_name(self.task), "model": own_name(self.model)}
        if self.pretrained is not None:
            content["pretrained"] = checkpoint_name(self.pretrained, self.versions.get("model"))
        if self.original_checkpoint is not None:
            content["original_checkpoint"] = checkpoint_name(self.original_checkpoint, self.versions.get("checkpoint"))
        if not self.versions:
            del content["versions"]
        if self.training is not None:
            content["training"] = {k: v for k, v in self.training.identity().items() if v is not None}
        return f"{self.kind}-{digest(content)}"

    @property
    def kind(self) -> str:
        """``original``, ``scoring`` (both trained on everything), ``retrain`` (on D_R), ``forget-only`` (on D_F) or ``validation-only`` (on D_V)."""
        if self.scoring:
            return "scoring"
        return f"{self.on}-only" if self.on else "original" if self.forget is None else "retrain"


ForgetSet.model_rebuild()
Recipe.model_rebuild()


#: What is declared of an original that was made elsewhere.
DECLARED = ("saw", "original_from")


class Trial(Frozen):
    """A method with all its hyperparameters unlearning one forget set from one trained model.

    ``lr`` is None for methods that take no gradient steps. ``seed`` drives unlearning, ``training_seed`` the original and the retrain.
    ``subset`` keeps only that many training examples of the task, ``pretrained`` starts training from a checkpoint. ``validation: test-half`` has D_V be
    one half of the data's test set and D_Test the other, so that D is all of the training set; without it D_V is what the task sets apart.
    ``after`` lists the ratios that were unlearned before, one after the other, in a sequence of deletions: this trial then starts from what they left and
    forgets only what ``forget`` adds to them.
    ``original_checkpoint`` is a network trained on the task elsewhere, which is then the original; only retrains are trained here.
    ``half`` makes it one of a shadow pool: D is then that random half of the training set.
    ``budget_epochs`` is given where the checkpoint itself is the original and nothing can be retrained: the passes over D_R that stand for the
    retrain's cost, as the task declares them.
    ``tuned`` says how the method was tuned, where it was; ``lr``, ``hyperparameters`` and those of ``unlearning`` that it lists as ``options`` are then what
    was chosen for this ratio. ``sequence`` says that it is a step of a sequence of deletions, the first one too. Neither decides anything of the outcome,
    and neither is a part of the id.
    """

    task: str
    subset: int | None = Field(default=None, ge=10)
    validation: Literal["test-half"] | None = None
    model: str
    pretrained: str | None = None
    original_checkpoint: str | None = None
    method: str
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    forget: ForgetSet
    seed: int
    training_seed: int
    lr: float | None = Field(gt=0)
    after: tuple[float, ...] = ()
    half: int | None = Field(default=None, ge=0)
    training: Training
    unlearning: Unlearning = Unlearning()
    budget: Budget = Budget()
    budget_epochs: float | None = Field(default=None, gt=0)
    #: Of an earlier release; no new trial has any.
    probes: Probes = Probes()
    versions: Versions = Field(default_factory=dict)
    tuned: dict[str, Any] | None = None
    sequence: bool = False
    #: Of a folder with a list for each ratio, a hash of all of them: they are one configuration. No part of the id, which has the list of its own ratio.
    lists: str | None = None
    #: What is declared of ``original_checkpoint``: whether it saw all of the data's training list or D alone, and what its training started from. Neither
    #: decides anything of the outcome, and neither is a part of the id.
    saw: Literal["train", "D"] | None = None
    original_from: Literal["random", "pretrained"] | None = None

    @cached_property
    def id(self) -> str:
        """Stable hash of everything that decides the outcome.

        Options left at their default do not enter it, so that adding an option later keeps every older id.
        """
        content = self.model_dump(exclude_defaults=True, exclude={"tuned", "sequence", "lists", *DECLARED})
        content["hyperparameters"] = self.hyperparameters
        content["training"] = self.training.identity()
        if "unlearning" in content:
            content["unlearning"] = _in_ids(content["unlearning"])
        content["forget"] = _identity(self.forget)
        content |= {"task": own_name(self.task), "model": own_name(self.model)}
        return digest(content | _checkpoints(content))

    @cached_property
    def configuration(self) -> str:
        """Everything of a trial but its repetitions and its ratio, as canonical JSON: trials of one configuration and ratio are repetitions of each other.

        ``setting`` is what methods are compared within, ``contender`` what is compared; see ROLES. Options left at their default do not stand in it.
        """
        return canonical(configuration_of(self.model_dump(mode="json", exclude_defaults=True)))

    @property
    def ratio(self) -> float:
        """Percent of the training set that is to be forgotten."""
        return self.forget.ratio

    @property
    def original(self) -> Recipe:
        """The recipe of the model that unlearning starts from."""
        if self.original_checkpoint is None:
            return self.trained
        made_elsewhere = {"original_checkpoint": self.original_checkpoint, "training": None, "seed": 0}
        versions = {name: self.versions[name] for name in ("task", "model", "checkpoint") if name in self.versions}
        return Recipe.model_validate(self.trained.model_dump() | made_elsewhere | {"versions": versions})

    @property
    def trained(self) -> Recipe:
        """The recipe of a model trained on all of D as its retrain is on D_R: the original, unless that was trained elsewhere."""
        return self._recipe(None)

    @property
    def retrain(self) -> Recipe | None:
        """The recipe of the reference that never saw D_F; None where there can be none."""
        return self._recipe(self.forget) if self.budget_epochs is None else None

    def trained_on(self, part: Literal["forget", "validation"], loop: int | str = 1) -> Recipe:
        """The recipe of a model of D_F alone or of D_V alone, trained as the original was by this version of the ``loop``."""
        recipe = self._recipe(self.forget if part == "forget" else None)
        versions = self._versions_of(f"{part}-only") | ({} if loop == 1 else {"training": loop})
        return Recipe.model_validate(recipe.model_dump() | {"on": part, "versions": versions})

    @property
    def previous(self) -> Trial | None:
        """The step before in a sequence of deletions, or None; its versions are for ``versions.versioned`` to say."""
        if not self.after:
            return None
        # Validated anew, not copied: a copy would take the cached id along.
        fields = self.model_dump()
        fields["forget"]["ratio"] = self.after[-1]
        return Trial.model_validate(fields | {"after": self.after[:-1], "versions": {}})

    def _recipe(self, forget: ForgetSet | None) -> Recipe:
        return Recipe(
            task=self.task,
            subset=self.subset,
            validation=self.validation,
            model=self.model,
            pretrained=self.pretrained,
            original_checkpoint=self.original_checkpoint if "reading" in self.versions else None,
            training=self.training if self.budget_epochs is None else None,
            seed=self.training_seed if self.budget_epochs is None else 0,
            forget=forget,
            half=self.half,
            frozen="bf16" if self.unlearning.frozen == "bf16" else None,
            versions=self._versions_of("original" if forget is None else "retrain"),
        )

    def _versions_of(self, kind: str) -> Versions:
        """The versions that decide an artifact."""
        entering = {"task": "task", "model": "model", "reading": "checkpoint", kind: "training"}
        if kind not in ("original", "validation-only"):
            entering["sampler"] = "sampler"
        return {name: self.versions[key] for key, name in entering.items() if key in self.versions}


#: What each field of a trial is: part of the ``setting`` (the models and data that methods are compared on), of the ``contender`` (what is compared), the
#: ``ratio``, a ``repetition``, or of several of them (``parts``); what is looked at (``observed``) is no part of any. A field that is not here fails a test.
ROLES: dict[str, Literal["setting", "contender", "ratio", "repetition", "parts", "observed"]] = {
    "task": "setting",
    "subset": "setting",
    "validation": "setting",
    "model": "setting",
    "pretrained": "setting",
    "original_checkpoint": "setting",
    "saw": "setting",
    "original_from": "setting",
    "method": "contender",
    "hyperparameters": "contender",
    "forget": "parts",  # the sampler, its options and network: setting; the seed of the draw: repetition
    "seed": "repetition",
    "training_seed": "repetition",
    "lr": "contender",
    "after": "ratio",
    "half": "parts",  # which half: repetition; whether it is one: setting
    "training": "setting",
    "unlearning": "contender",
    "budget": "contender",
    "budget_epochs": "setting",
    "probes": "observed",
    "versions": "parts",  # of task, model, sampler: setting; of a plugin's method: contender; method and loop: of rows that differ the latest count
    "sequence": "contender",
    "lists": "parts",  # where it is given, it stands for the list of the ratio
    "tuned": "parts",  # where it is given, it stands for lr, hyperparameters and those options of unlearning that were searched
}


#: What unlearns nothing: its hyperparameters and unlearning seed change nothing, and all other methods are held to it.
CONTROLS = ("original", "retrain")
#: The method of a network that was unlearned elsewhere. Its cost is not known, and of its budget and its tuning nothing is: it stands apart, and no rank or
#: letter is given to it.
EXTERNAL = "external"
UNRANKED = (*CONTROLS, EXTERNAL)


def configuration_of(trial: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """``setting`` and ``contender`` of a trial given as plain data, defaults left out or not; what equals its default never stands in them."""
    setting = {name: trial.get(name) for name, role in ROLES.items() if role == "setting"}
    forget, versions, method = trial.get("forget") or {}, dict(trial.get("versions") or {}), trial.get("method")
    options = {key: value for key, value in (forget.get("options") or {}).items() if key != "path"}
    if "classes" in options:  # a set
        options["classes"] = sorted(set(options["classes"]))
    setting |= {name: own_name(str(setting[name])) for name in ("task", "model") if setting.get(name)}
    setting |= _checkpoints(trial)
    if trial.get("lists"):
        options["sha256"] = trial["lists"]
    setting |= {"sampler": forget.get("sampler", ForgetSet.model_fields["sampler"].default), "sampler_options": options}
    unlearning = _changed(Unlearning, trial.get("unlearning"))
    setting["frozen"] = unlearning.pop("frozen", None)  # f_O and f_R are others, too
    setting["scored_by"] = _network(forget.get("scored_by"))
    setting |= {"shadow": trial.get("half") is not None, "training": _changed(Training, trial.get("training"))}
    setting["versions"] = {key: versions[key] for key in ("task", "model", "checkpoint", "sampler") if key in versions}
    contender = {"method": method}
    if method not in CONTROLS:  # nothing of what follows changes a control
        contender |= {name: trial.get(name) for name in ("hyperparameters", "lr")}
        if tuned := trial.get("tuned"):
            contender = {"method": method, "tuned": tuned}
            unlearning = {key: value for key, value in unlearning.items() if key not in tuned.get("options", ())}
        contender |= {"unlearning": unlearning}
        contender |= {"budget": _changed(Budget, trial.get("budget"))}
        contender |= {"sequence": bool(trial.get("sequence") or trial.get("after"))}
    # Another version of a method of ours replaces the one before (``repetitions``); another one of a plugin's code is another method.
    own = versions.get("method")
    contender |= {"versions": {"method": own} if isinstance(own, str) else {}}
    return {
        "setting": plain({name: value for name, value in setting.items() if value not in (None, {}, False)}),
        "contender": plain({name: value for name, value in contender.items() if value not in (None, {}, False)}),
    }


def _network(recipe: Any) -> str | None:
    """The id of a scoring network's recipe that is given as plain data; of what is no recipe of this version, a digest."""
    if recipe is None:
        return None
    try:
        return Recipe.model_validate(recipe).id
    except ValidationError:
        return digest(recipe)


def plain(content: Any) -> Any:
    """Nested plain data in which equal numbers have equal texts: 5.0 is 5."""
    if isinstance(content, dict):
        return {name: plain(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    return int(content) if isinstance(content, float) and content.is_integer() else content


def _changed(kind: type[Frozen], given: dict[str, Any] | None) -> dict[str, Any]:
    """What of an options' plain data is not the default."""
    fields = kind.model_fields
    defaults = kind().model_dump(mode="json")
    given = renamed(given or {})
    return {name: value for name, value in given.items() if name not in fields or value != defaults[name]}


def canonical(content: Any) -> str:
    """JSON whose text is equal where the content is."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


#: Options of a task or model of one's own that say where it lies and how it is called, not what it is.
PLACED = ("path", "called")


def own_name(name: str) -> str:
    """A task or model as an id, a row and a page name it: a registered one as it is. One that a family opens, ``family:{options as JSON}``, as
    ``family:NAME@DIGEST``: what it is called or the last part of its path, wherever that lies, and a digest of all its other options, the hash of its
    content among them."""
    family, _, told = name.partition(":")
    if not told.startswith("{"):
        return name
    options = json.loads(told)
    called = options.get("called") or os.path.basename(
        os.path.normpath(re.sub(r"@[0-9a-f]{40}$", "", str(options.get("path", ""))))
    )
    rest = {key: value for key, value in options.items() if key not in PLACED}
    called = re.sub(r"[^\w.-]+", "_", called)
    return f"{family}:{called}@{digest(rest, 8)}"


#: Before the hash of weights that lie on this machine, in the version of their network; and before that of all that lies there but weights.
WEIGHTS, READING = ":weights-", ":reading-"


def checkpoint_name(source: str, version: int | str | None) -> str:
    """A checkpoint as an id names it: one on this machine, the hash of which stands in its network's version, by its last part alone, wherever it lies and
    however its path is spelled; one of which only the hash of the rest stands there by that alone; a hub id as it is."""
    if isinstance(version, str) and READING in version:
        return ""
    return os.path.basename(os.path.normpath(source)) if isinstance(version, str) and WEIGHTS in version else source


def _checkpoints(trial: dict[str, Any]) -> dict[str, str]:
    """The checkpoints of a trial given as plain data, as ids name them."""
    versions = trial.get("versions") or {}
    named = {"pretrained": "model", "original_checkpoint": "checkpoint"}
    return {key: checkpoint_name(trial[key], versions.get(of)) for key, of in named.items() if trial.get(key)}


def _identity(forget: ForgetSet | None) -> dict[str, Any] | None:
    """A forget set by what it draws; its options and its network are ``options`` of the id."""
    if forget is None:
        return None
    return {**forget.model_dump(exclude={"scored_by"}), "options": forget.drawn_from}
