"""The settings at which Deep Unlearn's released code ran on the fixed problem, each with what this package calls the same.

``released``: a class of their ``munl.unlearning``; ``cfg``: what was set other than their default. ``method``, ``hyperparameters``, ``lr``, ``options``: ours,
every departure of released code that has a switch switched on. ``switches``: which of the hyperparameters these are, with the value that switches them off.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from mubench_ray.methods import METHODS, Method
from mubench_ray.trial import Unlearning


@dataclass(frozen=True)
class Setting:
    """One row of the comparison."""

    name: str
    released: str
    cfg: dict[str, Any]
    method: str
    hyperparameters: dict[str, Any]
    lr: float | None
    options: dict[str, Any] = field(default_factory=dict)
    switches: dict[str, Any] = field(default_factory=dict)

    def configured(self, switched: bool = True) -> Method:
        """Our method, as released or (``switched`` False) with those of its departures off."""
        return METHODS.get(self.method).configure(self.hyperparameters | ({} if switched else self.switches))

    @property
    def switched_on(self) -> str:
        """The departures and their values."""
        return ", ".join(f"{name} {self.hyperparameters[name]}" for name in self.switches)

    @property
    def unlearning(self) -> Unlearning:
        """The options of our loop: SGD with momentum as in released code, where nothing else is said."""
        return Unlearning(
            **{"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 64, **self.options}
        )


#: Neither momentum nor weight decay.
PLAIN = {"momentum": 0.0, "weight_decay": 0.0}


def both(lr: float, **more: Any) -> dict[str, Any]:
    """Their optimiser's part of a configuration."""
    return {"optimizer": {"learning_rate": lr, **more}}


def sgd(name: str, released: str, method: str, lr: float, epochs: float, batch: int, cfg: dict | None = None, given: dict | None = None,
        switches: dict[str, Any] | None = None, **options: Any) -> Setting:  # fmt: skip
    """A setting whose learning rate, epochs and batch size both sides call alike."""
    theirs = {"num_epochs": epochs, "batch_size": batch, **both(lr), **(cfg or {})}
    return Setting(name, released, theirs, method, {"epochs": epochs, **(given or {})}, lr, {"batch_size": batch, **options}, switches or {})  # fmt: skip


def scrub(
    name: str, lr: float, temperature: float, msteps: int, forget_batch: int, decay: str, epochs: int = 5
) -> Setting:
    """SCRUB: batches of 32, the learning rate falls at .5, .8 and .9 of the epochs."""
    theirs = {
        "sgda_learning_rate": lr,
        "kd_T": temperature,
        "msteps": msteps,
        "forget_batch_size": forget_batch,
        "sgda_num_epochs": epochs,
    }
    given = {"epochs": epochs, "temperature": temperature, "msteps": msteps, "decay_after": decay}
    return Setting(name, "SCRUBUnlearningV2", theirs, "scrub", given, lr, {"batch_size": 32}, {"decay_after": ""})


def last(name: str, released: str, method: str, lr: float, epochs: int, k: int, pull: float, decay: str) -> Setting:
    """CF-k and EU-k: no momentum, a pull to the start, the learning rate falls after .5, .8 and .9 of the epochs."""
    theirs = {"learning_rate": lr, "num_epochs": epochs, "num_blocks": k, "sgda_weight_decay": pull, "batch_size": 256}
    given = {"epochs": epochs, "k": k, "pull": pull, "mode": "eval", "decay_after": decay}
    off = {"pull": 0.0, "mode": "train", "decay_after": ""}
    if method == "eu_k":
        given, off = {**given, "drawn": "released"}, {**off, "drawn": "architecture"}
    return Setting(name, released, theirs, method, given, lr, {**PLAIN, "batch_size": 256}, off)


def kde(name: str, lr: float, warmup: float, temperature: float, epochs: int = 3) -> Setting:
    """KDE: two learning rates."""
    theirs = {
        "num_epochs": epochs,
        "retain_num_epochs": epochs,
        "temperature": temperature,
        **both(warmup),
        "retain_optimizer": {"learning_rate": lr},
    }
    given = {
        "warmup_epochs": epochs,
        "epochs": epochs,
        "temperature": temperature,
        "warmup_lr_factor": warmup / lr,
        "form": "released",
        "advance": "epoch",
    }
    return Setting(name, "KGLTop6", theirs, "kde", given, lr, {}, {"form": "scaled", "advance": "step"})


def rni(name: str, lr: float, fine: Any, early: int = 5, fine_epochs: int = 4, std: float = 0.04) -> Setting:
    """RNI."""
    theirs = {"num_epochs": early + fine_epochs, "fine_num_epochs": fine_epochs, "origin_noise": std, **both(lr)}
    if fine is not None:
        theirs["fine_optimizer"] = {"learning_rate": fine}
    given = {"early_epochs": early, "fine_epochs": fine_epochs, "std": std, "noise_on": "untrained", "fresh": True}
    return Setting(name, "KGLTop7", theirs, "rni", given, lr, {}, {"noise_on": "once", "fresh": False})


def ff(name: str, alpha: float, batch: int) -> Setting:
    """FF."""
    given = {"alpha": alpha, "vector_factor": 10.0, "head_clamp": 100.0, "rows": "mean", "squared": "batches"}
    off = {"vector_factor": 1.0, "head_clamp": 1e3, "rows": "each", "squared": "examples"}
    theirs = {"alpha": alpha, "batch_size": batch}
    return Setting(name, "FisherForgetting", theirs, "ff", given, None, {"batch_size": batch}, off)


def iu(name: str, alpha: float) -> Setting:
    """IU."""
    return Setting(name, "InfluenceUnlearning", {"alpha": alpha}, "iu", {"alpha": alpha}, None, {"batch_size": 256})


def fcs(name: str, lr: float, epochs: int, batch: int, temperature: float) -> Setting:
    """FCS: the repair's learning rate is theirs times batch / 64."""
    theirs = {
        "num_epochs": epochs,
        "batch_size": batch,
        "temperature": temperature,
        "retain_optimizer": {"learning_rate": lr},
    }
    main = lr * batch / 64
    given = {
        "epochs": epochs,
        "temperature": temperature,
        "uniform_lr_factor": 0.005 / main,
        "contrast_lr_factor": 3e-4 / main,
    }
    return Setting(name, "KGLTop1", theirs, "fcs", given, main, {"batch_size": batch, "weight_decay": 0.0})


def bad_t(name: str, lr: float, epochs: int, temperature: float) -> Setting:
    """BT: Adam, all of D_R."""
    theirs = {"num_epochs": epochs, "kl_temperature": temperature, **both(lr)}
    given = {"epochs": epochs, "temperature": temperature, "form": "mixed", "retain_share": 1.0}
    return Setting(
        name,
        "BadTeacher",
        theirs,
        "bad_t",
        given,
        lr,
        {"optimizer": "adam", "weight_decay": 0.0, "batch_size": 256},
        {"form": "paired"},
    )


def salun(name: str, lr: float, epochs: int, tau: float) -> Setting:
    """SalUn: no momentum."""
    return sgd(
        name,
        "SaliencyUnlearning",
        "salun",
        lr,
        epochs,
        256,
        {"threshold": tau},
        {"tau": tau, "form": "mixed"},
        {"form": "passes"},
        **PLAIN,
    )


def ng_plus(name: str, lr: float, epochs: int, batch: int, alpha: float) -> Setting:
    """NG+: no weight decay."""
    given = {"alpha": alpha, "mode": "eval"}
    return sgd(name, "NegGradPlus", "neggrad_plus", lr, epochs, batch, {"alpha": alpha}, given, {"mode": "train"}, weight_decay=0.0)  # fmt: skip


def ft(name: str, lr: float, epochs: int, batch: int) -> Setting:
    """FT."""
    return sgd(name, "FinetuneUnlearner", "ft", lr, epochs, batch, {}, {"advance": "epoch"}, {"advance": "step"})


def cfw(name: str, lr: float, epochs: int, std: float) -> Setting:
    """CFW."""
    given = {"std": std, "where": "top", "advance": "epoch"}
    return sgd(
        name, "KGLTop3", "cfw", lr, epochs, 64, {"start_confuser_std": std}, given, {"where": "all", "advance": "step"}
    )


def msg(name: str, lr: float, epochs: int, batch: int, rate: float) -> Setting:
    """MSG."""
    given = {"rate": rate, "advance": "epoch", "mode": "train"}
    return sgd(
        name, "KGLTop2", "msg", lr, epochs, batch, {"init_rate": rate}, given, {"advance": "step", "mode": "eval"}
    )


def ct(name: str, lr: float, epochs: int, batch: int) -> Setting:
    """CT."""
    return sgd(name, "KGLTop5", "ct", lr, epochs, batch, {}, {"advance": "epoch"}, {"advance": "step"})


SETTINGS = [
    ft("ft", 0.1, 5, 256),
    ft("ft, lr .01, batch 64", 0.01, 5, 64),
    ft("ft, lr .05, 8 epochs", 0.05, 8, 64),
    sgd("ga", "GradientAscent", "neggrad", 0.01, 10, 256),
    sgd("ga, lr .001", "GradientAscent", "neggrad", 0.001, 10, 256),
    sgd("ga, lr .0005, batch 64, 5 epochs", "GradientAscent", "neggrad", 0.0005, 5, 64),
    sgd("srl", "SuccessiveRandomLabels", "srl", 0.1, 5, 256),
    sgd("srl, lr .01, batch 64, 8 epochs", "SuccessiveRandomLabels", "srl", 0.01, 8, 64),
    fcs("fcs", 0.001, 8, 256, 1.15),
    fcs("fcs, batch 64, T 3, 4 epochs", 0.002, 4, 64, 3.0),
    msg("msg", 0.001, 5, 64, 0.3),
    msg("msg, lr .01, rate .6", 0.01, 5, 64, 0.6),
    msg("msg, lr .005, 9 epochs", 0.005, 9, 64, 0.3),
    cfw("cfw", 0.0007, 4, 0.6),
    cfw("cfw, lr .005, 8 epochs, std .1", 0.005, 8, 0.1),
    sgd("prmq", "KGLTop4", "prmq", 0.0005, 3.2, 64),
    sgd("prmq, lr .01, pruned .5", "KGLTop4", "prmq", 0.01, 3.2, 64, {"prune_amount": 0.5}, {"prune_rate": 0.5}),
    ct("ct", 0.001, 3, 64),
    ct("ct, lr .01", 0.01, 3, 64),
    ct("ct, lr .005, 8 epochs", 0.005, 8, 64),
    kde("kde", 1e-3, 9e-4, 5.0),
    kde("kde, lr .01", 1e-2, 9e-3, 5.0),
    kde("kde, lr .01, T 1, 5 epochs", 1e-2, 9e-3, 1.0, 5),
    rni("rni", 2e-4, None),
    rni("rni, one fine lr", 2e-4, 2e-4),
    rni("rni, lr .002, std .2", 2e-3, 2e-3, std=0.2),
    salun("salun", 0.01, 10, 0.5),
    salun("salun, tau .2", 0.01, 10, 0.2),
    salun("salun, lr .05, 5 epochs", 0.05, 5, 0.5),
    last("cf-k", "CatastrophicForgettingK", "cf_k", 0.01, 10, 1, 0.1, "6,9"),
    last("cf-k, k 2, no pull", "CatastrophicForgettingK", "cf_k", 0.01, 10, 2, 0.0, "6,9"),
    last("cf-k, lr .05, 5 epochs", "CatastrophicForgettingK", "cf_k", 0.05, 5, 1, 0.1, "3,5"),
    last("eu-k", "ExactUnlearningK", "eu_k", 0.01, 10, 1, 0.1, "6,9"),
    last("eu-k, lr .1, no pull", "ExactUnlearningK", "eu_k", 0.1, 10, 1, 0.0, "6,9"),
    scrub("scrub", 5e-4, 2.0, 3, 64, "2,4,4"),
    scrub("scrub, T 4, D_F batch 32", 5e-4, 4.0, 3, 32, "2,4,4"),
    scrub("scrub, lr .005, one max step, D_F batch 32", 5e-3, 2.0, 1, 32, "2,4,4"),
    ng_plus("ng+", 0.01, 10, 256, 0.95),
    ng_plus("ng+, alpha .8, lr .002", 0.002, 5, 64, 0.8),
    ng_plus("ng+, lr .001, batch 64", 0.001, 10, 64, 0.95),
    bad_t("bt", 0.01, 10, 1.0),
    bad_t("bt, lr .001", 0.001, 10, 1.0),
    bad_t("bt, lr .001, T 4, 5 epochs", 0.001, 5, 4.0),
    ff("ff", 0.2, 64),
    ff("ff, alpha 1e-6", 1e-6, 64),
    ff("ff, alpha 1e-5", 1e-5, 64),
    iu("iu", 0.2),
    iu("iu, alpha 1", 1.0),
    iu("iu, alpha 10", 10.0),
]  # fmt: skip

#: Larger than every set: an epoch is one step, and its order is no matter.
WHOLE = 1000
WHOLE_BATCHES = {
    "scrub": {"retain_batch_size": WHOLE, "forget_batch_size": WHOLE, "batch_size": WHOLE},
    "bt": {"batch_size": WHOLE, "optimizer": {"type": "torch.optim.SGD", "learning_rate": 0.05, "momentum": 0.9}},
}
#: Settings at which nothing is drawn, so that both must end in the same weights. What is drawn elsewhere is given (``deep_unlearn.md`` says how).
EXACT = [
    ft("ft", 0.1, 4, WHOLE),
    sgd("ga", "GradientAscent", "neggrad", 0.05, 4, WHOLE),
    ng_plus("ng+", 0.02, 4, WHOLE, 0.8),
    fcs("fcs", 0.003, 3, WHOLE, 1.15),
    msg("msg", 0.1, 5, WHOLE, 0.0),
    sgd("prmq", "KGLTop4", "prmq", 0.1, 3, WHOLE, {"prune_amount": 0.0, "num_epochs": 2.0}, {"prune_rate": 0.0}),
    ct("ct", 0.1, 4, WHOLE),
    replace(kde("kde", 0.1, 0.05, 5.0), options={"batch_size": WHOLE}),
    replace(rni("rni", 0.05, 0.05, 2, 3), options={"batch_size": WHOLE}),
    replace(last("cf-k", "CatastrophicForgettingK", "cf_k", 0.1, 10, 1, 0.1, "6,9"), options={**PLAIN, "batch_size": WHOLE}),
    replace(scrub("scrub", 0.02, 4.0, 3, WHOLE, "2,4,4"), options={"batch_size": WHOLE}),
    replace(bad_t("bt", 0.05, 4, 2.0), lr=0.05 / 10, options={"batch_size": WHOLE, "weight_decay": 0.0}),
]  # fmt: skip
EXACT = [replace(s, cfg={**s.cfg, **WHOLE_BATCHES.get(s.name, {"batch_size": WHOLE})}) for s in EXACT]
