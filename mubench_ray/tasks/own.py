"""What tasks on a user's own data share: their options, how the plan finds out what is there, and how D, D_V and D_Test come about.

``@own("image_folder", ...)`` registers such a task as a family: a suite says ``{name: image_folder, path: pictures, size: 64}``, and what that opens is
a class like that of any task, with the classes, sizes and normalisation that were found. It counts by its content: the hash of all its files stands
among its options, is held to wherever it is opened again, and decides ids in the place of the path.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mubench_ray.errors import DataError, MubenchError, did_you_mean
from mubench_ray.files import read_json, sha256, write
from mubench_ray.registry import Family
from mubench_ray.tasks.base import TASKS, Card, Classification, Splits
from mubench_ray.tasks.conversion import fingerprint
from mubench_ray.tasks.examples import VALIDATION_SEED, VALIDATION_SHARE, Examples, carve_validation
from mubench_ray.tasks.files import cache_root
from mubench_ray.trial import Training, canonical, digest, own_name

#: What the splits of a data set are called, by what they become.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
#: Names that an error lists.
NAMED = 5


class OwnOptions(BaseModel):
    """Where the data lies and how it is cut."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    #: Counted from the current folder, or else from the folder in MUBENCH_DATA.
    path: str
    #: What tables call it, in place of the path's last part.
    called: str | None = None
    #: Of the content: found when it is planned, and held to when it is opened again.
    sha256: str | None = None
    #: Shares that D_Test and D_V are drawn with, class by class, where the data has no such split of its own.
    test_share: float = Field(default=0.2, gt=0, lt=1)
    validation_share: float = Field(default=VALIDATION_SHARE, gt=0, lt=1)
    #: Of those draws.
    split_seed: int = Field(default=VALIDATION_SEED, ge=0)

    @field_validator("path")
    @classmethod
    def _named(cls, path: str) -> str:
        if not path.strip():
            raise ValueError("names nothing")
        return path


class Source(NamedTuple):
    """The files of a data set, each once, and the folder that their names are counted from."""

    root: Path
    files: list[Path]

    @property
    def stamps(self) -> list[list]:
        """Names, sizes and times: what a second look goes by."""
        return fingerprint(self.root, self.files)

    def sha256(self) -> str:
        """Of names and contents, shortened."""
        told = sorted(f"{path.relative_to(self.root).as_posix()} {_hash(path)}" for path in self.files)
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


class Parts(NamedTuple):
    """What was read: the examples of every split that the data has by its name here (``train``, ``validation``, ``test``), all of them as ``train`` where it
    has none; the names of the classes, in the order of their numbers; and what there is to say of it."""

    examples: dict[str, Any]
    names: list[str]
    notes: list[str]


class Own(Classification):
    """A task on a user's own data. A subclass says its ``Options``, its ``source`` and how it is ``read``, and its modality by another base."""

    Options: ClassVar[type[OwnOptions]] = OwnOptions
    #: The options of what was opened.
    options: ClassVar[Any]
    #: Names of the classes, by number.
    class_names: tuple[str, ...]
    #: What the plan says of the data: how much of what there is, where D_V and D_Test come from, what could not be read.
    notes: ClassVar[tuple[str, ...]] = ()
    #: Raised where the same files give other examples than before.
    reading: ClassVar[int] = 1

    @classmethod
    def variant(cls, options: Any) -> type[Own]:
        """The class that these options ask for, where a family has several (pictures or texts, say)."""
        return cls

    @classmethod
    def found(cls) -> str:
        """What was found, in a line: classes, sizes, shape of an example, and the notes."""
        sizes = cls.card.sizes
        parts = [f"{len(cls.class_names)} classes ({listed(cls.class_names)})"]
        parts.append(f"D {sizes['train']:,}, D_V {sizes['validation']:,}, D_Test {sizes['test']:,} examples")
        shapes = {key: tuple(column.shape[1:]) for key, column in cls().blank(1).items() if column.ndim > 1}
        parts += [f"{key} {' x '.join(map(str, shape))}" for key, shape in shapes.items()]
        if (mean := getattr(cls, "mean", None)) is not None:
            parts.append(f"normalised by mean {spaced(mean)} and std {spaced(getattr(cls, 'std', ()))}")
        return "; ".join([*parts, *cls.notes])

    @classmethod
    def source(cls, options: Any) -> Source:
        """The files that it is made of; raises DataError saying what is missing."""
        raise NotImplementedError(f"{cls.__name__} does not define source")

    @classmethod
    def content(cls, options: Any) -> str:
        """The hash of what lies there."""
        return cls.source(options).sha256()

    @classmethod
    def stamps(cls, options: Any) -> Any:
        """What tells, without reading it, that the content is still the one that was hashed; anything JSON holds."""
        return cls.source(options).stamps

    @classmethod
    def settled(cls, options: Any) -> dict[str, Any]:
        """Attributes that ``read`` needs and that follow from the files (the size of pictures)."""
        return {}

    @classmethod
    def measured(cls, splits: Splits) -> dict[str, Any]:
        """Attributes that follow from what was read (mean and standard deviation of D)."""
        return {}

    def read(self) -> Parts:
        """Everything, in the same order every time; raises DataError naming file and line."""
        raise NotImplementedError(f"{type(self).__name__} does not define read")

    def load(self) -> Splits:
        """D, D_V and D_Test: the data's own where it has them, else drawn from what it calls training."""
        return cut(self.read(), self.options, self.name)[0]

    @classmethod
    def opened(cls, options: Any) -> type[Own]:
        """The class of a data set, with what was found in it; held to the hash that ``options`` say. Raises DataError where it is another, or cannot be
        used."""
        cls = cls.variant(options)
        made_from = [
            cls.__name__,
            [cls.reading, 2],  # the second number rises where more is found out
            os.path.abspath(options.path),
            options.model_dump(mode="json", exclude={"sha256", "called"}),
            cls.stamps(options),
        ]
        told = cache_root() / "own" / f"{digest(made_from)}.json"
        known = _known(told)
        found = known["sha256"] if known else cls.content(options)
        if options.sha256 not in (None, found):
            raise DataError(
                f"{options.path}: its content has the hash {found}, and {options.sha256} is named: it is other data than what was planned. "
                "Bring that data here, or leave `sha256` out to take what is here."
            )
        options = options.model_copy(update={"sha256": found})
        name = own_name(f"{cls.name}:{spelled(options)}")
        shared = {"name": name, "options": options, "__doc__": cls.__doc__, "__module__": cls.__module__}
        if known is None:
            settled = cls.settled(options)
            opened = type(cls.__name__, (cls,), shared | settled)
            parts = opened().read()
            splits, notes = cut(parts, options, name)
            known = {
                "sha256": found,
                "class_names": parts.names,
                "sizes": {part: len(getattr(splits, part)) for part in ("train", "validation", "test")},
                "notes": [*parts.notes, *notes],
                "carves_validation": splits.validation.carved,
                "carves_test": splits.test.carved,
                "attributes": settled | opened.measured(splits),
            }
            try:
                write(told, json.dumps(known))
            except OSError as error:
                raise DataError(
                    f"{told}: cannot be written ({error.strerror or error}); set MUBENCH_CACHE to a folder with room."
                ) from error
        tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in known["attributes"].items()}
        card = Card(
            title=f"{cls.card.title}: {options.called or Path(options.path).name}",
            source=options.path,
            licence="the user's own",
            citation="none",
            revision=found,
            sizes=known["sizes"],
        )
        return type(
            cls.__name__,
            (cls,),
            shared
            | tuples
            | {
                "card": card,
                "classes": len(known["class_names"]),
                "class_names": tuple(known["class_names"]),
                "notes": tuple(known["notes"]),
                "train_size": known["sizes"]["train"],
                "carves_validation": known["carves_validation"],
                "carves_test": known["carves_test"],
            },
        )


def _known(told: Path) -> dict[str, Any] | None:
    try:
        return read_json(told)
    except (OSError, ValueError):  # not found out yet, or not to its end
        return None


def spelled(options: OwnOptions) -> str:
    """The options that are not at their default, as a name has them."""
    return canonical(options.model_dump(mode="json", exclude_defaults=True))


def cut(parts: Parts, options: OwnOptions, name: str) -> tuple[Splits, list[str]]:
    """D, D_V and D_Test, and in words where they come from. One split beside training is D_Test, whatever it is called: as for the public data sets that
    label only one, nothing that a network was chosen by takes its place.

    Raises DataError for a class that only D_Test or D_V has, and where a set would be empty.
    """
    examples = dict(parts.examples)
    train, notes = examples["train"], list[str]()
    if "test" not in examples and "validation" in examples:
        examples["test"] = examples.pop("validation")
        notes.append("its one split beside training is D_Test")
    for part, share, called in (
        ("test", options.test_share, "D_Test"),
        ("validation", options.validation_share, "D_V"),
    ):
        if part not in examples:
            train, examples[part] = carve_validation(train, share, (part, options.split_seed))
            notes.append(
                f"{called} is {100 * share:g} % of the training examples, drawn class by class with seed {options.split_seed}"
            )
    splits = Splits(train, examples["validation"], examples["test"])
    counted = {
        called: _counts(part)
        for called, part in (("D", splits.train), ("D_V", splits.validation), ("D_Test", splits.test))
    }
    for called, counts in counted.items():
        if not counts:
            raise DataError(f"{name}: {called} would have no example: give more data, or a larger share.")
        if unknown := sorted(set(counts) - set(counted["D"])):
            raise DataError(
                f"{name}: {called} has {listed([parts.names[label] for label in unknown])}, of which D has no example: no network could learn that class."
            )
        if lacking := [parts.names[label] for label in range(len(parts.names)) if label not in counts]:
            notes.append(f"{called} has no example of {listed(lacking)}")
    return splits, notes


def _counts(examples: Examples) -> Counter[int]:
    return Counter(examples.labels.tolist())


def spaced(numbers: Iterable[float]) -> str:
    """Numbers in a row."""
    return " ".join(f"{number:g}" for number in numbers)


def listed(names: Iterable[str]) -> str:
    """The first few names in quotes, and how many more there are."""
    names = list(names)
    more = len(names) - NAMED
    return ", ".join(repr(name) for name in names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def numbered(labels: Iterable[Any], where: str, as_text: bool = False) -> list[str]:
    """The names of the classes in the order of their numbers: by number where all are whole numbers (unless they are taken ``as_text``), else by name.
    Raises DataError for fewer than two."""
    names = sorted({str(label) for label in labels})
    if not as_text and all(name.lstrip("-").isdecimal() for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise DataError(
            f"{where}: has the class {listed(names)} alone; a classification needs two."
            if names
            else f"{where}: has no class."
        )
    return names


def placed(path: str, what: str) -> Path:
    """Where a path of a suite leads: from the current folder, or from the one in MUBENCH_DATA; raises DataError naming both."""
    places = [Path(path)]
    if os.environ.get("MUBENCH_DATA") and not places[0].is_absolute():
        places.append(Path(os.environ["MUBENCH_DATA"]) / path)
    for place in places:
        if place.exists():
            return place.absolute()
    raise DataError(f"{what}: there is no {' and no '.join(str(place.absolute()) for place in places)}.")


def part_of(name: str) -> str | None:
    """``train``, ``validation`` or ``test`` for what a split or a folder is called; None for any other name."""
    return next((part for part, names in SPLITS.items() if name.lower() in names), None)


def parsed(options: type[OwnOptions], name: str, told: str) -> Any:
    """Options from the part of a name after its colon: JSON, or a path alone. Raises MubenchError with the nearest names of an option that is not there."""
    try:
        given: dict[str, Any] = json.loads(told) if told.startswith("{") else {"path": told}
    except ValueError as error:
        raise MubenchError(f"task {name}: its options are no JSON ({error}): {told[:80]!r}.") from error
    for option in given:
        if option not in options.model_fields:
            raise MubenchError(f"task {name} has no option {option!r}. {did_you_mean(option, options.model_fields)}")
    try:
        return options(**given)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"])) or "its options"
        if fault["type"] == "missing":
            raise MubenchError(f"task {name} needs its option {key}.") from None
        message = fault["msg"].removeprefix("Value error, ").removesuffix(".")
        raise MubenchError(f"task {name}: {key} = {fault['input']!r}: {message}.") from None


Described = TypeVar("Described", bound=Own)


def own(name: str, title: str) -> Callable[[type[Described]], type[Described]]:
    """Class decorator that registers a family of tasks: ``name:PATH``, or ``{name: NAME, path: PATH, ...}`` in a suite."""

    def register(cls: type[Described]) -> type[Described]:
        cls.name = name
        cls.card = Card(title, "the user's own", "the user's own", "none", "its content's hash")
        if "training" not in vars(cls):
            cls.training = Training()

        def opening(told: str) -> tuple[str, type[Own]]:
            options = parsed(cls.Options, name, told)
            opened = cls.opened(options)
            return spelled(opened.options), opened

        TASKS.add_family(Family(name, "PATH", title, cls.__doc__ or "", opening, cls.Options))
        return cls

    return register
