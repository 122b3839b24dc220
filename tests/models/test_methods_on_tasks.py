"""Every method on every kind of task, on tiny networks: it either refuses the network with a reason or unlearns to finite weights."""

import pytest
import torch

from mubench_ray.methods import METHODS
from mubench_ray.models import MODELS
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.evaluate import evaluate
from mubench_ray.training.meter import Meter
from mubench_ray.trial import ForgetSet, Training, Trial, Unlearning
from mubench_ray.trials.unlearning import unlearn
from tests.models.conftest import seeded

KINDS = ["bert-tiny", "wav2vec2-tiny", "vilt-tiny", "videomae-tiny", "t5-tiny", "llama-tiny", "stable-diffusion-tiny"]


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("name", KINDS)
def test_a_method_unlearns(name, method, loaded):
    model = MODELS.get(name)
    task, splits = loaded(model.modality, model.kinds[0])
    sets = {
        "forget": Rows(splits.train, torch.arange(4)),
        "retain": Rows(splits.train, torch.arange(4, 12)),
        "validation": Rows(splits.validation, torch.arange(min(4, len(splits.validation)))),
    }
    data = UnlearningData(task, model, sets)
    spaces = METHODS.get(method).spaces()
    configured = METHODS.get(method).configure(
        {key: max(1, spaces[key].low) for key in ("epochs", "msteps") if key in spaces}
    )
    network = seeded(lambda: model.build(task))
    reason = configured.refusal(type(task)) or configured.refusal_for_network(network)
    if reason:
        assert name.split("-")[0] in reason or len(reason) > 20
        pytest.skip(reason)
    ctx = Context(task, model, network, data, 1, Meter(), 1e-4)
    ctx.training = Training(epochs=1, batch_size=4)
    trial = Trial(
        task=task.name,
        model=name,
        method=method,
        forget=ForgetSet(ratio=10),
        seed=1,
        training_seed=1,
        lr=1e-4,
        training=ctx.training,
        unlearning=Unlearning(batch_size=4),
    )
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert unlearn(ctx, configured, trial, lambda ctx: None) is False
    after = ctx.network.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    moved = before.keys() != after.keys() or any(not torch.equal(value, after[key]) for key, value in before.items())
    assert moved or configured.start == "retrain" or method == "original"
    assert all(len(column) == 4 for column in evaluate(ctx.network, data, sets["forget"]).values())
