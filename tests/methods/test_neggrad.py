from tests.methods.conftest import assert_same, ce, descend


def test_one_step_ascends_on_the_forget_set(case):
    descend(case.network, -ce(case.network, *case.set("forget")))
    case.run("ga", epochs=1)
    assert_same(case.ctx.network, case.network)


def test_it_reads_nothing_but_the_forget_set(case):
    case.run("neggrad", epochs=2)
    assert all(forget.all() for _, forget in case.handed) and len(case.handed) == 2
