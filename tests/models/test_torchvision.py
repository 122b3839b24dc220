"""Image networks against torchvision's own: the same tensors, the same FLOs. For an environment with torchvision, which CI builds beside the first.

Over a CPU build of torch, torchvision's compiled part does not load, and it cannot be imported until the operators it names exist.
"""

from importlib.util import find_spec

import pytest
import torch

from mubench_ray.models import MODELS
from mubench_ray.models.flos import count_flos

pytestmark = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")


@pytest.fixture(scope="module")
def published():
    """torchvision.models, its missing operators named first."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
            library.define(schema)
    import torchvision

    yield torchvision.models
    del library


PAIRS = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "mobilenetv2": "mobilenet_v2",
    "convnext": "convnext_tiny",
    "vit-b": "vit_b_16",
    "swin-t": "swin_t",
    "swin-s": "swin_s",
    "swin-b": "swin_b",
}


def sizes(network):
    """Number of parameters; fused and separate projections of attention count the same."""
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", PAIRS)
def test_the_network_is_torchvisions(name, published, thousand):
    with torch.device("meta"):
        ours = MODELS.get(name).build(thousand).eval()
        theirs = getattr(published, PAIRS[name])().eval()
    assert sizes(ours) == sizes(theirs)
    if name.startswith("resnet"):
        shapes = [sorted(tuple(p.shape) for p in network.parameters()) for network in (ours, theirs)]
        assert shapes[0] == shapes[1]
    with torch.no_grad():
        pixels = torch.zeros(1, 3, 224, 224, device="meta")
        _, flos = count_flos(lambda: ours(pixel_values=pixels))
        _, expected = count_flos(lambda: theirs(pixels))
    assert flos == pytest.approx(expected, rel=0.02)
