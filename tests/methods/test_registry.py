"""Over every registered method: which tensors it changes, and none but those."""

import pytest
import torch

from mubench_ray.conformance import shortest
from mubench_ray.conformance.bench import bench, run
from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.trial import Unlearning

CONTROLS = {"original", "retrain"}
#: One-shot updates in eval mode: BatchNorm statistics stay.
ONE_SHOT = {"ff", "iu", "ssd"}
#: Methods that end with a network of their own.
ENSEMBLES = {"sisa"}
#: Prefixes of what is trained, where it is not everything.
PARTS = {"cf_k": ("resnet.encoder.stages.1.", "classifier."), "eu_k": ("resnet.encoder.stages.1.", "classifier.")}
EXPECTED = {
    "bad_t", "cf_k", "cfw", "ct", "delete", "eu_k", "fcs", "ff", "ft", "iu", "kde", "kga", "l1_sparse", "msg", "neggrad", "neggrad_plus",
    "npo", "original", "prmq", "rand_label", "retrain", "rni", "salun", "scrub", "sisa", "srl", "ssd",
}  # fmt: skip
USES_VALIDATION = {"scrub", "kde", "kga"}


def test_all_methods_of_both_papers_are_there_under_the_papers_names():
    assert set(METHODS.names()) >= EXPECTED
    aliases = {"GA": "neggrad", "NG+": "neggrad_plus", "grad_diff": "neggrad_plus", "BT": "bad_t", "Fisher": "ff", "CF-k": "cf_k",
               "EU-k": "eu_k", "l1-sparse": "l1_sparse", "Bad-T": "bad_t", "RandLabel": "rand_label", "NegGrad": "neggrad"}  # fmt: skip
    assert {alias: METHODS.canonical(alias) for alias in aliases} == aliases


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
        assert changed <= parameters and (name == "ssd" or changed == parameters)
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


@pytest.mark.parametrize("name", sorted(EXPECTED - CONTROLS))
def test_lora_trains_adapters_and_merges_them_or_is_refused(name):
    method = METHODS.get(name)
    ctx = bench("cnn-small", method.uses_validation, lr=1e-2 if method.uses_lr else None)
    if name in ("sisa", "ssd"):
        with pytest.raises(MubenchError, match="LoRA"):
            run(shortest(method), ctx, Unlearning(batch_size=8, lora=0.5))
        return
    ran = run(shortest(method), ctx, Unlearning(batch_size=8, lora=0.5))
    assert ran.before.keys() == ran.after.keys()
    assert any(not torch.equal(ran.before[n], ran.after[n]) for n in ran.before)


@pytest.mark.parametrize("name", sorted(EXPECTED - CONTROLS - ENSEMBLES - ONE_SHOT))
def test_it_runs_through_superloss(name):
    method = METHODS.get(name)
    ran = run(shortest(method), bench("cnn-small", method.uses_validation), Unlearning(batch_size=8, superloss=10.0))
    assert all(torch.isfinite(tensor).all() for tensor in ran.after.values())
