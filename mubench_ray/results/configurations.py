"""Which rows are repetitions of each other: the column ``configuration``, and the shortest names that tell configurations apart.

Every mean, interval, pairing, gate and chart groups by what is found here, and by nothing else.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from mubench_ray.trial import CONTROLS, canonical, configuration_of, digest, plain

#: How a setting's forget sets and training sets are drawn.
DRAWN = ("sampler", "sampler_options", "shadow")
#: What of a setting tells tasks of one name apart; the rest tells models apart.
OF_TASK = ("task", "model", "subset", "validation", *DRAWN)

Row = Mapping[str, Any]


def configuration(row: Row) -> str:
    """The configuration of a row of the trials table: as it is stored or, of a folder of an earlier release, from its trial."""
    if row.get("configuration"):
        return row["configuration"]
    try:
        trial = json.loads(row["trial"])
    except ValueError:
        trial = {}
    trial = trial if isinstance(trial, dict) else {}
    told = {"task": row["task"], "model": row["model"], "method": row["method"], "lr": row["lr"], "after": row["after"]}
    told |= {"hyperparameters": _read(row["hyperparameters"]), "unlearning": _read(row["options"])}
    forget = {"sampler": row["sampler"], **(trial.get("forget") or {})}
    return canonical(configuration_of(told | trial | {"forget": forget}))


def _read(text: str | None) -> dict[str, Any]:
    content = json.loads(text or "{}")
    return content if isinstance(content, dict) else {"": content}


def tuned(found: str, row: Row, chosen: Mapping[str, Any], suite: Mapping[str, Any]) -> str:
    """The configuration of a row that a search chose, where ``search/chosen.json`` says so and the row does not (folders of an earlier release): the
    method and how it was tuned, not what was chosen for this ratio. ``suite`` is the folder's suite."""
    content = json.loads(found)
    contender = content["contender"]
    if "tuned" in contender or contender["method"] in CONTROLS:
        return found
    mine = {"lr": row["lr"], "hyperparameters": _read(row["hyperparameters"]), "ratio": row["ratio"]}
    mine |= {name: row[name] for name in ("task", "model", "method", "sampler", "forget_seed")}
    subset = content["setting"].get("subset")
    for choice in chosen.get("choices") or []:
        if choice.get("subset") == subset and all(choice.get(name) == value for name, value in mine.items()):
            entries = [entry for entry in suite.get("methods") or [] if entry.get("name") == row["method"]]
            entry = entries[0] if len(entries) == 1 else {}
            given = {name: value for name, value in entry.items() if name not in ("name", "lrs", "tuned")}
            lrs = [None] if row["lr"] is None else entry.get("lrs") or suite.get("lrs") or []
            del contender["hyperparameters"]
            contender.pop("lr", None)
            search = how(chosen.get("search") or {}, row["method"], given, lrs)
            return canonical(plain(content | {"contender": contender | {"tuned": search}}))
    return found


#: Of a search, what came later and goes unsaid where it is as all searches were before.
UNSAID = {"spaces": {}, "of_tasks": {}, "chosen_by": "sum", "sweeps_on": "all_seeds"}


def how(
    search: Mapping[str, Any],
    method: str,
    given: Mapping[str, Any],
    lrs: Iterable[float | str | None],
    options: Iterable[str] = (),
) -> dict[str, Any]:
    """What tells tuned contenders of one method apart: the search, what was set by hand, the grid of learning rates or the method's own range, and which
    ``options`` of the trial were searched. It is the same for all tasks."""
    names = ("strategy", "trials", "sweeps", "seeds", "hyperparameters", "objectives", "points", "generation", *UNSAID)
    found = {name: search[name] for name in names if search.get(name, UNSAID.get(name)) != UNSAID.get(name)}
    if own := (search.get("of_methods") or {}).get(method):
        found["of_method"] = own
    found |= {"given": dict(given)} if given else {}
    found |= {"lrs": list(lrs)} if list(lrs) != [None] else {}
    return found | ({"options": list(options)} if options else {})


def setting_names(configurations: Iterable[str]) -> dict[str, tuple[str, str]]:
    """For each configuration the name of its task and of its model: the registered ones, with what differs between settings of one name, and nothing
    where all are alike. Different settings never have the same pair of names.

    A task that is cut to n training examples is always ``task[n]``, one with D_V in the test set ``task (validation test-half)``.
    """
    settings = {text: json.loads(text)["setting"] for text in configurations}
    drawn: dict[str, set[str]] = defaultdict(set)
    for setting in settings.values():
        drawn[setting["task"]].add(canonical({name: setting.get(name) for name in DRAWN}))
    tasks = {text: _task_name(setting, len(drawn[setting["task"]]) > 1) for text, setting in settings.items()}
    rest = {text: {k: v for k, v in setting.items() if k not in OF_TASK} for text, setting in settings.items()}
    alike: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for text, setting in settings.items():
        alike[tasks[text], setting["model"]][canonical(rest[text])] = rest[text]
    models = {
        text: ", ".join([setting["model"], *differences(rest[text], alike[tasks[text], setting["model"]].values())])
        for text, setting in settings.items()
    }
    # Numbers are said in few digits: what they do not tell apart a digest does.
    models = with_digests({text: (tasks[text], models[text], canonical(settings[text])) for text in settings}, models)
    return {text: (tasks[text], models[text]) for text in settings}


def contender_names(configurations: Iterable[str], titles: Mapping[str, str]) -> dict[str, str]:
    """For each configuration the name of its contender: the method's title, with what differs between the contenders of one method. Different contenders
    never have the same name."""
    contenders = {text: json.loads(text)["contender"] for text in configurations}
    alike: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for contender in contenders.values():
        alike[contender["method"]][canonical(contender)] = contender
    names = {
        text: " · ".join(
            [titles.get(each["method"], each["method"]), *differences(each, alike[each["method"]].values())]
        )
        for text, each in contenders.items()
    }
    return with_digests({text: (names[text], canonical(contenders[text])) for text in contenders}, names)


def with_digests(keys: Mapping[str, tuple[str, ...]], names: Mapping[str, str]) -> dict[str, str]:
    """The names, with a digest of the last part of their key where keys have all other parts in common."""
    owners: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for *shown, content in keys.values():
        owners[tuple(shown)].add(content)
    return {
        text: f"{name} #{digest(keys[text][-1], 6)}" if len(owners[keys[text][:-1]]) > 1 else name
        for text, name in names.items()
    }


def _task_name(setting: Mapping[str, Any], say_how: bool) -> str:
    cut = f"[{setting['subset']}]" if setting.get("subset") else ""
    parts = [f"validation {setting['validation']}"] if setting.get("validation") else []
    if say_how:
        options = dict(setting.get("sampler_options") or {})
        sampler = setting["sampler"].replace("_", " ")
        if setting["sampler"] == "class" and "classes" in options:
            classes = options.pop("classes")
            by, part = options.pop("by", "class"), "part of " if options.pop("part", False) else ""
            plural = ("es" if by == "class" else "s") if len(classes) > 1 else ""
            sampler = f"{part}{by}{plural} {', '.join(map(str, classes))}"
        if "sha256" in options:
            sampler += f" {options.pop('sha256')[:8]}"
        parts += [sampler, *(f"{name} {spoken(value)}" for name, value in options.items())]
        parts += ["shadow pool"] if setting.get("shadow") else []
    return setting["task"] + cut + (f" ({', '.join(parts)})" if parts else "")


def differences(content: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[str]:
    """What ``content`` says and not all ``others`` (itself among them) say alike, as short texts in order of their names."""
    own, *all_of_them = ({name: spoken(value) for name, value in leaves(each).items()} for each in (content, *others))
    return [
        described(name, text) for name, text in sorted(own.items()) if any(o.get(name) != text for o in all_of_them)
    ]


def described(name: str, value: str) -> str:
    """A leaf of a configuration as people say it."""
    short = name.partition(".")[2] or name
    if name == "pretrained":
        return "pretrained" if value == "published" else f"pretrained {value}"
    if name == "original_checkpoint":
        return f"original {value}"
    if name == "sequence":
        return "in sequence"
    if name == "scored_by":
        return f"scored by {value.removeprefix('scoring-')[:6]}"
    if name.startswith("budget."):
        return f"budget {100 * float(value):g} %" if short == "flos" and value != "none" else f"budget {short} {value}"
    if name.startswith("versions."):
        return f"{short} version {value}"
    if name.startswith("tuned."):
        return f"tuned, {short} {value}"
    return f"{short} {value}"


def leaves(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """What nested plain data holds, nested keys joined by a point."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= leaves(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found


def spoken(value: object) -> str:
    """A number as people write it (0.0005 as 5e-4); anything else as text."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(spoken, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value != 0 and abs(value) < 0.01:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"
