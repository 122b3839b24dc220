"""Names to things: one lazy registry per kind (``kinds.KINDS`` lists them), filled by importing the files of a package.

A thing registers itself in its own file, so adding one touches that file and nothing else. Outside files join through
an entry point of the group ``mubench_ray.<kind>`` or through ``mubench run --plugin FILE``.

What is a user's own is opened by a family: ``timm:resnet18``, ``image_folder:pictures``. The part after the colon says what.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from mubench_ray.errors import MubenchError, UnknownName, did_you_mean, ends_process

T = TypeVar("T")


def fold(name: str) -> str:
    """The spelling under which names are compared: lower case, no spaces, dashes or underscores."""
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


@dataclass(frozen=True)
class Family(Generic[T]):
    """What opens a user's own things by ``NAME:WHAT``.

    ``open`` makes of the part after the colon that part as every process is to read it, and the thing; it raises MubenchError. ``form`` is what stands
    after the colon, ``title`` a line, ``what`` all about it, ``options`` the pydantic model of its options, where it is said as a mapping.
    """

    name: str
    form: str
    title: str
    what: str
    open: Callable[[str], tuple[str, T]]
    options: Any = None


class Registry(Generic[T]):
    """A mapping of canonical names to registered things, with aliases and helpful refusals."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._things: dict[str, T] = {}
        self._spellings: dict[str, str] = {}
        self._unlisted: set[str] = set()
        self._families: dict[str, Family[T]] = {}
        #: What families have opened, by its canonical name.
        self._opened: dict[str, T] = {}
        self._discovered = False

    def add(self, name: str, thing: T, aliases: tuple[str, ...] = (), listed: bool = True) -> None:
        """Register ``thing`` under ``name`` and its aliases; raises MubenchError when a spelling is taken by another. What is not ``listed`` is known by its
        name alone: nobody chooses it."""
        for spelling in (name, *aliases):
            owner = self._spellings.get(fold(spelling))
            if owner is not None:
                raise MubenchError(f"The {self.kind} name {spelling!r} is already taken by {owner!r}; choose another.")
        for spelling in (name, *aliases):
            self._spellings[fold(spelling)] = name
        self._things[name] = thing
        if not listed:
            self._unlisted.add(name)

    def add_family(self, family: Family[T]) -> None:
        """Register what opens names that begin with ``family.name`` and a colon; raises MubenchError where that is a name already."""
        if fold(family.name) in self._families or fold(family.name) in self._spellings:
            raise MubenchError(f"The {self.kind} name {family.name!r} is already taken; choose another.")
        self._families[fold(family.name)] = family

    def families(self) -> dict[str, Family[T]]:
        """What opens a user's own things, by name, sorted."""
        self._discover()
        return {family.name: family for _, family in sorted(self._families.items())}

    def family(self, name: str) -> Family[T] | None:
        """The family called so, or that a name with a colon belongs to; None for any other name."""
        self._discover()
        return self._families.get(fold(str(name).partition(":")[0]))

    def canonical(self, name: str) -> str:
        """The canonical name behind any accepted spelling; raises UnknownName with the nearest choices, and MubenchError for what a family cannot open."""
        name = str(name)
        if name in self._opened:
            return name
        if (family := self.family(name)) is not None:
            what = name.partition(":")[2]
            if not what:
                raise UnknownName(f"{self.kind} {family.name!r} opens your own: say {family.name}:{family.form}.")
            told, thing = family.open(what)
            self._opened[canonical := f"{family.name}:{told}"] = thing
            return canonical
        try:
            return self._spellings[fold(name)]
        except KeyError:
            known = [*self.names(), *(f"{family}:..." for family in self.families())]
            raise UnknownName(f"Unknown {self.kind} {name!r}. {did_you_mean(name, known)}") from None

    def get(self, name: str) -> T:
        """The thing registered under ``name`` (or an alias), or that its family opens; raises UnknownName."""
        canonical = self.canonical(name)
        return self._opened[canonical] if canonical in self._opened else self._things[canonical]

    def names(self) -> list[str]:
        """All canonical names that are listed, sorted."""
        self._discover()
        return sorted(self._things.keys() - self._unlisted)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter((name, self._things[name]) for name in self.names())

    def __contains__(self, name: object) -> bool:
        self._discover()
        if not isinstance(name, str):
            return False
        return fold(name) in self._spellings or (":" in name and self.family(name) is not None)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # what is imported here may ask for names
        try:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            for entry in entry_points(group=f"mubench_ray.{self.kind}"):
                entry.load()
        except BaseException:
            self._discovered = False  # whoever asks next is told the same, and not that there is no such name
            raise


def load_plugin(path: str | Path) -> ModuleType:
    """Import a user's own file so that what it registers is known here, and give it; raises MubenchError naming the file."""
    path = Path(path).resolve()
    if not path.is_file():
        raise MubenchError(f"Plugin file {path} does not exist.")
    name = f"mubench_plugin_{path.stem}"
    if name in sys.modules:  # of another file of this name: what is in the first must still be found by its module
        name += f"_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    # Also a script that names itself as plugin has registered what it defines already.
    for loaded in list(sys.modules.values()):
        if (file := getattr(loaded, "__file__", None)) and Path(file).resolve() == path:
            return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MubenchError(f"Plugin file {path} is no Python file: its name has to end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, MubenchError | KeyboardInterrupt) or ends_process(error):
            raise
        raise MubenchError(f"Plugin file {path} could not be imported: {type(error).__name__}: {error}") from error
    return module
