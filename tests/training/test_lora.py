import pytest
import torch

from mubench_ray.models import MODELS
from mubench_ray.tasks import TASKS
from mubench_ray.training.lora import adapted, add_lora, merge_lora, rank_for


def network(name):
    torch.manual_seed(0)
    return MODELS.get(name).build(TASKS.get("digits")())


def pixels():
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def logits(net):
    net.eval()
    with torch.no_grad():
        out = net(pixel_values=pixels())
    return getattr(out, "logits", out)


@pytest.mark.parametrize("model", ["cnn-small", "resnet-tiny", "vit-tiny"])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_adapters_hold_the_share(model, share):
    plain = network(model)
    size = sum(p.numel() for p in plain.parameters())
    one = rank_for(plain, 1e-9)
    assert one == 1
    adapted = add_lora(plain, share)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    step = trained / rank_for(network(model), share)  # what one rank more or less would change
    assert abs(trained - share * size) <= step / 2 + 1
    assert all("lora_" in name for name, p in adapted.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("model", ["cnn-small", "resnet-tiny", "vit-tiny"])
def test_a_fresh_adapter_changes_nothing_and_a_trained_one_merges(model):
    before = logits(network(model))
    adapted = add_lora(network(model), 0.2)
    assert torch.allclose(logits(adapted), before, atol=1e-5)
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    changed = logits(adapted)
    assert not torch.allclose(changed, before, atol=1e-3)
    merged = merge_lora(adapted)
    assert torch.allclose(logits(merged), changed, atol=1e-4)
    assert merged.state_dict().keys() == network(model).state_dict().keys()


#: A task of the modality and kind that each very small network serves.
SERVES = {
    ("image", "classification"): "digits",
    ("text", "classification"): "movie_snippets",
    ("speech", "classification"): "spoken_digits",
    ("video", "classification"): "moving_fashion",
    ("image pair + text", "classification"): "nlvr2",
    ("text", "sequence to sequence"): "samsum",
    ("text", "causal language model"): "wiki_bio",
}
EVERY_TINY = [
    name
    for name in MODELS.names()
    if name.endswith("-tiny") and (MODELS.get(name).modality, MODELS.get(name).kinds[0]) in SERVES
]


@pytest.mark.parametrize("model", EVERY_TINY)
def test_every_architecture_takes_adapters_and_merges_them_into_its_own_weights(model):
    architecture = MODELS.get(model)

    def build():
        torch.manual_seed(0)
        return architecture.build(TASKS.get(SERVES[architecture.modality, architecture.kinds[0]])())

    before, layers = build().state_dict(), adapted(build())
    network = add_lora(build(), 0.2)
    moving = [name for name, p in network.named_parameters() if p.requires_grad]
    assert len(moving) == 2 * len(layers) and all("lora_" in name for name in moving)
    for name, p in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    after = merge_lora(network).state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".parametrizations")[0].removesuffix(".weight") for name in changed} == set(layers)
    parameters = [len(list(net.parameters())) for net in (build(), merge_lora(add_lora(build(), 0.2)))]
    assert parameters[0] == parameters[1]  # what was tied still is


def test_a_head_that_shares_its_weight_with_an_embedding_is_left_out():
    tied = torch.nn.ModuleDict(
        {"words": torch.nn.Embedding(5, 4), "inside": torch.nn.Linear(4, 4), "head": torch.nn.Linear(4, 5, bias=False)}
    )
    assert list(adapted(tied)) == ["inside", "head"]
    tied["head"].weight = tied["words"].weight
    assert list(adapted(tied)) == ["inside"]
