"""Over every registered method: which tensors it changes, and none but those."""

import pytest
import torch

from mubench_ray.conformance import shortest
from mubench_ray.conformance.bench import bench, run
from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.suite import make_suite
from mubench_ray.training.lora import merge_lora
from mubench_ray.trial import Unlearning
from mubench_ray.trials import unlearning

CONTROLS = {"original", "retrain"}
#: One-shot updates in eval mode: BatchNorm statistics stay.
ONE_SHOT = {"assd", "ff", "iu", "lfssd", "ssd"}
#: Of those, the ones that shrink some weights and leave the rest.
SHRINK = {"assd", "lfssd", "ssd"}
#: Methods that train in eval mode throughout: BatchNorm stays as f_O has it.
STILL = {"jit", "neggrad_plus"}
#: Methods that end with a network of their own.
ENSEMBLES = {"sisa"}
#: Prefixes of what is trained, where it is not everything.
PARTS = {"cf_k": ("resnet.encoder.stages.1.", "classifier."), "eu_k": ("resnet.encoder.stages.1.", "classifier.")}
EXPECTED = {
    "bad_t", "cf_k", "cfw", "ct", "delete", "eu_k", "fcs", "ff", "ft", "grad_diff", "iu", "kde", "kga", "l1_sparse", "msg", "neggrad", "neggrad_plus",
    "npo", "original", "prmq", "rand_label", "retrain", "rni", "salun", "scrub", "sisa", "srl", "ssd",
    "amun", "assd", "boundary_expand", "boundary_shrink", "jit", "lfssd", "munba", "natmu", "noisy_fine_tuning", "sfron", "unsir",
}  # fmt: skip
#: Methods that redraw, noise, transpose, prune or shrink weights other than adapters.
REFUSE_LORA = {
    "assd",
    "boundary_expand",
    "cfw",
    "ct",
    "eu_k",
    "kde",
    "lfssd",
    "msg",
    "noisy_fine_tuning",
    "prmq",
    "rni",
    "sisa",
    "ssd",
}
USES_VALIDATION = {"scrub", "kde", "kga"}


def test_all_methods_of_both_papers_are_there_under_the_papers_names():
    assert set(METHODS.names()) >= EXPECTED
    aliases = {"GA": "neggrad", "NG+": "neggrad_plus", "BT": "bad_t", "Fisher": "ff", "CF-k": "cf_k",
               "EU-k": "eu_k", "l1-sparse": "l1_sparse", "Bad-T": "bad_t", "RandLabel": "rand_label", "NegGrad": "neggrad"}  # fmt: skip
    assert {alias: METHODS.canonical(alias) for alias in aliases} == aliases


def test_what_a_hyperparameter_may_be_set_to():
    """A search's range is no limit by hand; what is a share stays one."""
    given = {
        "ff": {"alpha": 1e-14},
        "scrub": {"temperature": 0.01},
        "l1_sparse": {"alpha": 3},
        "salun": {"tau": 0.05},
        "ft": {"epochs": 50},
    }
    for name, value in given.items():
        assert (
            METHODS.get(name).configure(value).hyperparameters() | value
            == METHODS.get(name).configure(value).hyperparameters()
        )
    refused = {"ff": {"alpha": 0}, "salun": {"tau": 1.5}, "prmq": {"prune_rate": 1.01}, "msg": {"rate": -0.1}, "bad_t": {"retain_share": 2},
               "neggrad_plus": {"alpha": 1.1}, "npo": {"beta": -1}}  # fmt: skip
    for name, value in refused.items():
        ((key, number),) = value.items()
        with pytest.raises(MubenchError, match=rf"{name}\.{key} = {number} is (above|below|not above) [01]\."):
            METHODS.get(name).configure(value)


def test_what_came_later_goes_unsaid_at_its_default():
    npo = METHODS.get("npo")
    assert "reduction" not in npo.configure({"reduction": "sum"}).hyperparameters()
    assert npo.configure({"reduction": "mean"}).hyperparameters()["reduction"] == "mean"
    assert npo.configure(npo.configure({"reduction": "mean"}).hyperparameters()).reduction == "mean"


def test_every_method_says_which_trained_model_it_starts_from():
    assert {name: method.start for name, method in METHODS if method.start != "original"} == {"retrain": "retrain"}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_it_changes_the_tensors_it_claims_to_and_no_others(name):
    method = METHODS.get(name)
    ctx = bench("resnet-tiny", method.uses_validation, lr=1e-2 if method.uses_lr else None)
    ran = run(shortest(method), ctx, Unlearning(batch_size=8))
    assert all(torch.isfinite(tensor).all() for tensor in ran.after.values())
    assert (ctx.meter.flos > 0) == (name not in CONTROLS)
    if name in ENSEMBLES:
        return
    parameters = {n for n, _ in ctx.network.named_parameters()}
    changed = {n for n in ran.before if not torch.equal(ran.before[n], ran.after[n])}
    if name in CONTROLS:
        assert not changed
    elif name in ONE_SHOT:
        assert changed <= parameters and (name in SHRINK or changed == parameters)
    elif name in STILL:
        assert changed == parameters
    elif name in PARTS:
        assert changed == {n for n in ran.before if n.startswith(PARTS[name])}
    elif name == "salun":
        assert {n for n, mask in ctx.mask.items() if mask.any()} == changed & parameters
    else:
        assert changed == set(ran.before)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_method_says_whether_it_reads_the_validation_set(name):
    method = METHODS.get(name)
    assert method.uses_validation == (name in USES_VALIDATION)
    assert method.uses_lr == (name not in CONTROLS | ONE_SHOT | ENSEMBLES)
    if name in USES_VALIDATION:
        with pytest.raises(KeyError, match="validation"):
            run(shortest(method), bench("cnn-small", uses_validation=False))


@pytest.mark.parametrize("name", sorted(EXPECTED - CONTROLS - REFUSE_LORA))
def test_with_lora_only_adapters_move_and_they_are_merged(name, monkeypatch):
    method, seen = METHODS.get(name), {}

    def merge(network):
        seen.update({plain(n): t.clone() for n, t in network.state_dict().items()})
        return merge_lora(network)

    monkeypatch.setattr(unlearning, "merge_lora", merge)
    ctx = bench("cnn-small", method.uses_validation, lr=1e-2 if method.uses_lr else None)
    ran = run(shortest(method), ctx, Unlearning(batch_size=8, lora=0.5))
    adapters = {n for n in seen if "lora_" in n}
    assert adapters and seen.keys() - adapters == ran.before.keys()
    moved = {n for n in ran.before if not torch.equal(seen[n], ran.before[n])}
    assert not moved  # weights, biases, norms and their statistics
    assert any(seen[n].any() for n in adapters if "lora_B" in n)
    assert ran.before.keys() == ran.after.keys()
    changed = {n for n in ran.before if not torch.equal(ran.before[n], ran.after[n])}
    assert changed and changed <= {n for n in ran.before if n.endswith(("0.weight", "head.weight"))}


def plain(name):
    """A parameter's name in the network without adapters around it."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


@pytest.mark.parametrize("name", sorted(REFUSE_LORA))
def test_a_method_that_changes_weights_which_lora_keeps_is_refused_in_the_plan_and_in_a_run(name, tiny):
    method = METHODS.get(name)
    ctx = bench("cnn-small", method.uses_validation, lr=1e-2 if method.uses_lr else None)
    with pytest.raises(MubenchError, match="leave lora out"):
        run(shortest(method), ctx, Unlearning(batch_size=8, lora=0.5))
    plan = make_plan(make_suite({**tiny, "methods": ["ft", name], "unlearning": {"lora": 0.5}}))
    assert {trial.method for trial in plan.trials.values()} == {"ft"}
    assert [(part.trials, method.without_lora in part.reason) for part in plan.left_out] == [(2, True)]
