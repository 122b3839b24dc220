"""docs/add-a-sampler.md: its files are samplers of under 30 lines, from a plugin, its suite is valid and its trials run."""

import json
import re

import numpy as np
import pytest
import yaml

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import SuiteError, UnknownName
from mubench_ray.forget import SAMPLERS
from mubench_ray.registry import fold, load_plugin
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore, default_artifacts
from mubench_ray.trials.data import load_task
from mubench_ray.trials.originals import forget_split, scores_for
from mubench_ray.trials.rerun import rerun_trial
from mubench_ray.trials.run_trial import run_trial
from tests.pages import Page, conforms


@pytest.fixture
def page(repository, tmp_path, registered):
    """The page's Python blocks as plugins, and its suite."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", (repository / "docs" / "add-a-sampler.md").read_text(), re.DOTALL)
    codes = [code for kind, code in blocks if kind == "python"]
    for name, code in zip(("my_sampler.py", "my_scored_sampler.py"), codes, strict=True):
        assert len(code.splitlines()) < 30
        (tmp_path / name).write_text(code)
        load_plugin(tmp_path / name)
    return yaml.safe_load(next(code for kind, code in blocks if kind == "yaml"))


def test_the_page_s_samplers_conform_as_it_prints(repository, tmp_path, registered):
    page = Page(repository / "docs" / "add-a-sampler.md", tmp_path)
    page.load()
    assert conforms("samplers", "lopsided") == page.printed[0]
    unsure = re.findall(r"```python\n(.*?)```", page.text, re.DOTALL)[1]
    (tmp_path / "my_scored_sampler.py").write_text(unsure)
    load_plugin(tmp_path / "my_scored_sampler.py")
    assert conforms("samplers", "unsure") == page.printed[0]


def test_the_page_s_sampler_runs_in_its_suite(page, tmp_path):
    plan = make_plan(make_suite(page))
    trial = next(trial for trial in plan.trials.values() if trial.method == "retrain")
    assert trial.versions["sampler"].startswith("1:"), "a plugin counts by its content"
    assert trial.forget.options == {"favoured": 3}, "a default is no part of it"
    row = run_trial(trial, ArtifactStore(tmp_path)).row
    assert (row["status"], row["sampler"], row["forget_size"]) == ("ok", "lopsided", 50)
    train = load_task("digits", 500, None)[1].train
    drawn = train.labels[forget_split(trial, ArtifactStore(tmp_path)).forget] == 3
    assert drawn.float().mean() > 1.5 * (train.labels == 3).float().mean()


def test_a_row_of_it_runs_again_where_it_is_loaded_and_names_it_where_it_is_not(page, tmp_path):
    trial = next(iter(make_plan(make_suite({**page, "methods": "retrain", "training": {"epochs": 1}})).trials.values()))
    out = tmp_path / "out"
    row = run_trial(trial, ArtifactStore(default_artifacts(out))).row
    store = Store(out)
    store.create({"suite": "lopsided"})
    store.write_text("suite.json", json.dumps({"plugins": ["my_sampler.py"]}))
    assert all(each.same for each in rerun_trial(out, row))
    del SAMPLERS._spellings[fold("lopsided")]
    with pytest.raises(UnknownName, match=r"Unknown sampler 'lopsided'.*--plugin my_sampler\.py"):
        rerun_trial(out, row)


def test_the_page_s_options_are_held_to_what_is_declared(page):
    for sampler, said in (
        ({"name": "lopsided"}, "sampler lopsided needs its option favoured"),
        ({"name": "lopsided", "favoured": 3, "times": 0}, r"times = 0: Input should be greater than 0"),
        ({"name": "lopsided", "favored": 3}, r"no option 'favored'\. Did you mean 'favoured'"),
    ):
        with pytest.raises(SuiteError, match=said):
            make_suite({**page, "sampler": sampler})


def test_the_page_s_scored_sampler_reads_its_network(page, tmp_path):
    plan = make_plan(make_suite({**page, "sampler": "unsure", "training": {"epochs": 2}}))
    trial, store = next(iter(plan.trials.values())), ArtifactStore(tmp_path)
    split = forget_split(trial, store)
    (scores,) = scores_for(trial.forget, store)
    entropy = scores["entropy"]
    assert np.sort(entropy)[-50:].tolist() == np.sort(entropy[split.forget.numpy()]).tolist()
