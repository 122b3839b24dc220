import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mubench_ray.models.flos import count_flos
from mubench_ray.training.meter import BudgetSpent, Meter


def test_a_linear_layers_flos_by_hand():
    layer, x = nn.Linear(30, 50), torch.randn(7, 30)
    _, forward = count_flos(lambda: layer(x))
    assert forward == 2 * 7 * 30 * 50
    _, both = count_flos(lambda: layer(x.requires_grad_()).sum().backward())
    assert both == 3 * forward  # the gradients of the input and of the weight each cost a forward


def test_attention_is_counted_on_the_cpu_too():
    query = torch.randn(2, 4, 16, 8, requires_grad=True)
    _, flos = count_flos(lambda: F.scaled_dot_product_attention(query, query, query))
    assert flos == 2 * 2 * (2 * 4 * 16 * 16 * 8)  # q k^T and its product with v
    out = F.scaled_dot_product_attention(query, query, query)
    _, backward = count_flos(lambda: out.sum().backward())
    assert backward > flos


def test_a_kind_is_counted_once_and_charged_by_its_examples():
    layer, meter = nn.Linear(30, 50), Meter()
    for size in (8, 8, 3):
        meter.charge("step", size, lambda size=size: layer(torch.randn(size, 30)))
    assert meter.flos == 2 * 19 * 30 * 50 and meter.examples == 19


def test_the_cap_is_never_passed():
    layer = nn.Linear(30, 50)
    meter = Meter(cap_flos=2 * 30 * 50 * 20)
    taken = 0
    while meter.affords("step", 8):
        meter.charge("step", 8, lambda: layer(torch.randn(8, 30)))
        taken += 1
    assert taken == 2 and meter.flos <= meter.cap_flos
    assert meter.affords("step", 4)


def test_a_first_step_that_is_too_dear_is_not_charged():
    layer, meter = nn.Linear(30, 50), Meter(cap_flos=1000)
    with pytest.raises(BudgetSpent):
        meter.charge("step", 8, lambda: layer(torch.randn(8, 30)))
    assert meter.flos == 0 and meter.examples == 0
    ran = []
    with pytest.raises(BudgetSpent):
        meter.charge("step", 8, lambda: ran.append(1))
    assert not ran, "now its cost is known, it is not even run"


def test_paused_time_is_not_counted():
    meter = Meter(cap_seconds=0.2)
    meter.start()
    with meter.paused():
        time.sleep(0.3)
    assert meter.seconds < 0.2 and meter.affords("step", 1)
    time.sleep(0.25)
    assert not meter.affords("step", 1)
    meter.stop()
    spent = meter.seconds
    time.sleep(0.02)
    assert meter.seconds == spent


def test_a_checkpoint_gives_no_free_compute():
    layer, meter = nn.Linear(3, 5), Meter(cap_flos=300)
    meter.charge("step", 8, lambda: layer(torch.randn(8, 3)))
    again = Meter(cap_flos=300)
    again.load_state_dict(meter.state_dict())
    assert again.flos == meter.flos and again.seconds == pytest.approx(meter.seconds)
    assert not again.affords("step", 8)
