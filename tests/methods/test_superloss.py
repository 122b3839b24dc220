"""SuperLoss over every method: it weighs the loss of every example, or the plan refuses the pair and says why."""

import math

import pytest
import torch
from scipy.special import lambertw

from mubench_ray.conformance import shortest
from mubench_ray.conformance.bench import bench, run, unweighed
from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.training.superloss import SuperLoss
from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, descend, log_softmax, logits

CONTROLS = {"original", "retrain"}
STRENGTH = 4.0
OPTIONS = Unlearning(optimizer="sgd", momentum=0.0, batch_size=64, superloss=STRENGTH)


@pytest.mark.parametrize("name", METHODS.names())
def test_the_weights_differ_or_the_plan_refuses(name, tiny):
    method = METHODS.get(name)
    plan = make_plan(
        make_suite(
            {
                **tiny,
                "methods": ["srl", name] if name != "srl" else name,
                "ratios": 10,
                "unlearning": {"superloss": 10.0},
            }
        )
    )
    refused = [part.reason for part in plan.left_out]
    contexts = [bench("cnn-small", method.uses_validation, lr=1e-2 if method.uses_lr else None) for _ in range(2)]
    if refused:
        assert len(refused) == 1 and name in refused[0] and "leave superloss out" in refused[0]
        assert {trial.method for trial in plan.trials.values()} == {"srl"}
        with pytest.raises(MubenchError, match="leave superloss out"):
            run(shortest(method), contexts[0], Unlearning(batch_size=8, superloss=10.0))
        return
    assert name in {trial.method for trial in plan.trials.values()}
    ends = [
        run(shortest(method), ctx, Unlearning(batch_size=8, superloss=strength)).after
        for ctx, strength in zip(contexts, (None, 10.0))
    ]
    assert all(torch.isfinite(tensor).all() for tensor in ends[1].values())
    same = all(torch.equal(tensor, ends[1][key]) for key, tensor in ends[0].items())
    assert same == (name in CONTROLS)


FORMS = {
    "bad_t": [{"form": "paired"}, {"form": "mixed"}],
    "npo": [{"gamma": 0.0}, {"gamma": 1.0}, {"reduction": "mean"}],
    "scrub": [{"form": "two_phase"}, {"rewind": False}],
    "salun": [{"form": "mixed"}],
    "rand_label": [{"form": "passes"}],
    "grad_diff": [{"retain": "kl"}],
    "kde": [{"form": "scaled"}],
}


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, forms in FORMS.items() for form in forms])
def test_in_every_form_nothing_goes_past_it(name, form):
    method = METHODS.get(name)
    assert unweighed(method.configure(form), bench("cnn-small", method.uses_validation)) == []


class ByHand:
    """sum of confidence(l_i) l_i / B, whose gradient is SuperLoss's; tau is the mean of all losses that it was given."""

    def __init__(self, strength=STRENGTH):
        self.strength, self.seen = strength, []

    def __call__(self, losses):
        self.seen += losses.tolist()
        tau = sum(self.seen) / len(self.seen)
        return sum(loss * confidence(loss.item() - tau, self.strength) for loss in losses) / len(losses)


def confidence(excess, strength):
    return math.exp(-lambertw(max(-1 / math.e, excess / (2 * strength))).real)


def kl_each(p, q):
    return (p.exp() * (p - q)).sum(1)


def test_a_step_of_bad_t(case):
    weigh, (xf, _), (xr, _) = ByHand(0.2), case.set("forget"), case.set("retain")
    with torch.no_grad():
        bad, good = log_softmax(case.ctx.incompetent, xf), log_softmax(case.original, xr)
    corrupt = weigh(kl_each(bad, log_softmax(case.network, xf)))
    descend(case.network, (corrupt + weigh(kl_each(good, log_softmax(case.network, xr)))) / 2)
    case.run("bad_t", OPTIONS.model_copy(update={"superloss": 0.2}), epochs=1)
    assert_same(case.ctx.network, case.network)


def test_a_step_of_npo(case):
    weigh, (xf, yf), (xr, yr) = ByHand(), case.set("forget"), case.set("retain")
    with torch.no_grad():
        before = log_softmax(case.original, xf)[range(8), yf]
    ratio = (log_softmax(case.network, xf)[range(8), yf] - before).exp()
    preference = weigh(2 / 0.3 * torch.log(1 + ratio**0.3))
    descend(case.network, preference + 0.7 * weigh(-log_softmax(case.network, xr)[range(40), yr]))
    case.run("npo", OPTIONS, epochs=1, beta=0.3, gamma=0.7)
    assert_same(case.ctx.network, case.network)


def test_a_step_of_delete(case):
    x, y = case.set("forget")
    with torch.no_grad():
        p = logits(case.original, x).softmax(1)
    p[range(8), y] = 0
    p /= p.sum(1, keepdim=True)
    each = -(torch.special.entr(p).sum(1) + (p * log_softmax(case.network, x)).sum(1))
    descend(case.network, ByHand()(each))
    case.run("delete", OPTIONS, epochs=1)
    assert_same(case.ctx.network, case.network)


def test_a_max_and_a_min_step_of_scrub(case):
    weigh, (xf, yf), (xr, yr) = ByHand(), case.set("forget"), case.set("retain")
    descend(case.network, -log_softmax(case.network, xf)[range(8), yf].mean())  # away from f_O
    case.ctx.keep_original()
    case.ctx.network.load_state_dict(case.network.state_dict())

    def distance(x, outputs):
        return 16 * kl_each(log_softmax(case.original, x, 4.0), torch.log_softmax(outputs / 4, 1))

    case.ctx.curriculum = SuperLoss(STRENGTH)
    descend(case.network, -weigh(distance(xf, logits(case.network, xf))))
    outputs = logits(case.network, xr)  # one pass serves both terms
    task = weigh(-outputs.log_softmax(1)[range(40), yr])
    descend(case.network, task + 0.5 * weigh(distance(xr, outputs)))
    case.phases("scrub", OPTIONS, epochs=1, msteps=1, rewind=False, mode="train")
    assert_same(case.ctx.network, case.network, atol=5e-6)


def test_versions_move_where_outcomes_did():
    plain, weighed = Unlearning(), Unlearning(superloss=10.0)
    digits, biographies = TASKS.get("digits"), TASKS.get("wiki_bio")
    moved = {
        (name, where)
        for name in METHODS.names()
        for where, task, options in (
            ("", digits, plain),
            ("superloss", digits, weighed),
            ("sequences", biographies, plain),
        )
        if METHODS.get(name).version_for(task, options) > 1
    }
    names = (
        "amun", "cfw", "ct", "fcs", "ff", "ft", "iu", "kde", "kga", "l1_sparse", "msg", "neggrad_plus", "rni", "salun", "scrub", "sfron", "sisa", "ssd"
    )  # fmt: skip
    everywhere = {(name, where) for name in names for where in ("", "superloss", "sequences")}
    weighed_anew = {(name, "superloss") for name in ("bad_t", "delete", "npo", "prmq")}
    assert moved == everywhere | weighed_anew | {(n, "sequences") for n in ("bad_t", "npo", "rand_label", "srl")}
    # Those that had moved for some trials before move for them once more.
    again = {"scrub": 4, "kde": 3, "kga": 3, "fcs": 3, "msg": 4, "sisa": 3, "rni": 3, "iu": 3}
    assert {name: METHODS.get(name).version for name in again} == again
