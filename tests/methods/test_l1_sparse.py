from tests.methods.conftest import assert_same, ce, descend


def test_the_penalty_falls_linearly_over_the_epochs(case):
    for epoch in range(3):
        penalty = sum(p.abs().sum() for p in case.network.parameters())
        descend(case.network, ce(case.network, *case.set("retain")) + 0.01 * (1 - epoch / 3) * penalty)
    case.run("l1_sparse", epochs=3, alpha=0.01)
    assert_same(case.ctx.network, case.network)


def test_it_makes_weights_smaller_than_fine_tuning_does(make_case):
    norms = []
    for name, given in (("ft", {}), ("l1_sparse", {"alpha": 0.01})):
        case = make_case()
        case.run(name, epochs=10, **given)
        norms.append(sum(p.detach().abs().sum().item() for p in case.ctx.network.parameters()))
    assert norms[1] < 0.97 * norms[0]
