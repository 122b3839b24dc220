"""Options that a sampler has not, ids that stay, and sets that the data gives as a whole."""

import hashlib

import pytest
import torch

from mubench_ray.engine.plan import make_plan, split_name
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.forget import SAMPLERS, split_forget
from mubench_ray.suite import make_suite
from mubench_ray.tasks import Examples
from mubench_ray.trial import ForgetSet, Trial
from mubench_ray.trials.data import load_task
from tests.tasks.layouts import write_spoken_digits


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        ({"name": "uniform", "classes": [3]}, r"sampler: sampler uniform has no option 'classes'\. It has none"),
        ({"name": "class_balanced", "path": "x"}, "sampler class_balanced has no option 'path'"),
        ({"name": "class", "clases": [3]}, r"no option 'clases'\. Did you mean 'classes'\?"),
        ({"name": "class"}, "sampler class needs its option classes"),
        ({"name": "class", "classes": []}, "at least 1 item"),
        ({"name": "class", "classes": ["dog"]}, r"classes\.0 = 'dog'"),
        ({"name": "memorised", "halves": 3}, "multiple of 2"),
    ],
)
def test_what_a_sampler_has_not_is_refused_when_the_suite_is_read(base, sampler, said):
    with pytest.raises(SuiteError, match=said):
        make_suite({**base, "sampler": sampler})


def test_and_where_a_forget_set_is_drawn():
    with pytest.raises(MubenchError, match="uniform has no option 'classes'"):
        split_forget(examples(), ForgetSet(sampler="uniform", ratio=10, options={"classes": [3]}))


#: Id of the trial and of its retrain, the hashes of its forget set and of its configuration, as they were before samplers had options of their own.
IDS = {
    "uniform": ("ef6eb560ac85ee5a", "retrain-25929ea080fe2908", "d2ec2ccde3322a99", "4ca9487d"),
    "class_balanced": ("6651fd4bd552d3d0", "retrain-8a57aa4085dab088", "5945db051d8d8092", "5026cabf"),
    "class": ("13f37d0aa339a2f3", "retrain-21b4da2329adb9d0", "5e0921b65b710a92", "2b5b5beb"),
    "from_file": ("6319412261bfdcb7", "retrain-c98566d0ff0c6ef5", "5b9f6b6cc20e0fb5", "aa5f00fa"),
}


@pytest.mark.parametrize("name", IDS)
def test_ids_of_earlier_releases_stay(name, tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(map(str, range(150))) + "\n")
    more = {"class": {"classes": [3]}, "from_file": {"path": str(path)}}.get(name, {})
    ratio = 10.2 if name == "class" else 5
    content = {"name": "t", "tasks": "digits", "models": "cnn-small", "methods": "neggrad", "seeds": 1, "lrs": 5e-4}
    (trial,) = make_plan(make_suite({**content, "ratios": ratio, "sampler": {"name": name, **more}})).trials.values()
    drawn = split_forget(load_task("digits", None, None)[1].train, trial.forget).manifest["sha256"]
    told = hashlib.sha256(trial.configuration.encode()).hexdigest()
    assert (trial.id, trial.retrain.id, drawn[:16], told[:8]) == IDS[name]


def examples(size=1000, classes=10):
    index = torch.arange(size)
    return Examples({"labels": index % classes}, index, groups={"superclass": index % classes // 5})


def drawn(ratio, **options):
    return split_forget(examples(), ForgetSet(sampler="class", ratio=ratio, options=options))


def test_a_class_is_a_whole_with_one_ratio(base):
    (trial,) = make_plan(
        make_suite(
            {**base, "tasks": "digits", "methods": "ft", "seeds": 1, "sampler": {"name": "class", "classes": [3]}}
            | {"ratios": []}
        )
    ).trials.values()
    left_out = {name: value for name, value in base.items() if name != "ratios"}
    same = make_plan(make_suite({**left_out, "tasks": "digits", "sampler": {"name": "class", "classes": [3]}}))
    assert {each.ratio for each in same.trials.values()} == {trial.ratio} == {10.2}
    train = load_task("digits", None, None)[1].train
    split = split_forget(train, trial.forget)
    assert torch.equal(split.forget, (train.labels == 3).nonzero().flatten())
    assert "digits-class-10.2" in split_name(trial)


def test_ratios_that_would_give_the_same_set_twice_are_refused(base):
    """20 and 50 were the same 10.2 %, each with its own retrain; 10 left three pictures of the class in D_R."""
    with pytest.raises(SuiteError, match=r"20 is given, and what sampler class forgets of digits is 10"):
        make_plan(make_suite({**base, "ratios": [20, 50], "sampler": {"name": "class", "classes": [3]}}))
    for ratio in (20, 50, 9.9, 10.1):
        with pytest.raises(MubenchError, match=rf"class 3 is 10 % of D \(100 of 1000\), and ratio {ratio}"):
            drawn(ratio, classes=[3])
    assert len(drawn(10, classes=[3]).forget) == 100


def test_a_ratio_that_is_not_the_share_is_refused_before_anything_runs(base):
    suite = make_suite({**base, "tasks": "digits", "ratios": 20, "sampler": {"name": "class", "classes": [3]}})
    with pytest.raises(SuiteError, match=r"20 is given, and what sampler class forgets of digits is 10\.2 %"):
        make_plan(suite)


def test_all_classes_leave_nothing_to_keep(base):
    content = {name: value for name, value in base.items() if name != "ratios"}
    with pytest.raises(SuiteError, match="forgets all of digits: nothing is left to keep"):
        make_plan(make_suite({**content, "sampler": {"name": "class", "classes": list(range(10))}}))


def test_a_part_of_a_class_is_said():
    sets = [set(drawn(ratio, classes=[3, 4], part=True).forget.tolist()) for ratio in (5, 10)]
    assert sets[0] < sets[1] and len(sets[1]) == 100
    assert {row % 10 for row in sets[1]} == {3, 4}
    for ratio in (20, 30):
        with pytest.raises(MubenchError, match=r"class 3, 4 is 20 % of D .* part: true asks for"):
            drawn(ratio, classes=[3, 4], part=True)


def test_a_part_that_is_no_part_is_refused_before_anything_runs(base):
    content = {**base, "sampler": {"name": "class", "classes": [3], "part": True}}
    with pytest.raises(SuiteError, match=r"class 3 is 10.* % of D .* part: true asks for"):
        make_plan(make_suite({**content, "ratios": [5, 30]}))


def test_whole_groups_are_forgotten():
    """As many as come nearest: of ten groups of 100, 28 % are three; 15 % lie as far from one as from two; 2 % are none."""
    groups = torch.arange(1000) % 10
    data = Examples({"labels": torch.arange(1000) % 4}, torch.arange(1000), groups={"speaker": groups * 7 - 3})

    def of(ratio, seed=0, by="speaker"):
        forget = ForgetSet(sampler="group", ratio=ratio, seed=seed, options={"by": by})
        return split_forget(data, forget).forget

    sets = {ratio: of(ratio) for ratio in (10, 28, 50)}
    for ratio, count in {10: 1, 28: 3, 50: 5}.items():
        assert len(sets[ratio]) == 100 * count and len(groups[sets[ratio]].unique()) == count
    assert set(sets[10].tolist()) < set(sets[28].tolist()) < set(sets[50].tolist())
    assert len({tuple(of(50, seed).tolist()) for seed in range(5)}) > 1
    for ratio in (15, 2):
        with pytest.raises(MubenchError, match=r"is no number of whole groups of speaker: the nearest is 10 % of D"):
            of(ratio)
    with pytest.raises(MubenchError, match=r"by = 'speker' is no grouping.*Did you mean 'speaker'"):
        of(10, by="speker")


def test_ratios_that_are_the_same_groups_are_refused_before_anything_runs(base, tmp_path, monkeypatch):
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    write_spoken_digits(tmp_path / "free-spoken-digit-dataset", speakers=("ada", "bob", "cyd", "dan", "eve"))
    content = {
        **base,
        "tasks": "spoken_digits",
        "models": "wav2vec2-tiny",
        "data_dir": str(tmp_path),
        "sampler": {"name": "group", "by": "speaker"},
    }
    plan = make_plan(make_suite({**content, "ratios": [20, 40], "forget_seeds": [0, 1]}))
    train = load_task("spoken_digits", None, str(tmp_path))[1].train
    for forget in [trial.forget for trial in plan.trials.values()]:
        speakers = train.groups["speaker"][split_forget(train, forget).forget].bincount()
        assert (speakers > 0).sum() == forget.ratio // 20
        assert all(n in (0, total) for n, total in zip(speakers.tolist(), train.groups["speaker"].bincount().tolist()))
    with pytest.raises(
        SuiteError, match=r"ratios: 20 and 22 % of spoken_digits are the same examples by sampler group"
    ):
        make_plan(make_suite({**content, "ratios": [20, 22]}))


def test_published_sets_are_the_data_s_own():
    places = torch.arange(400)
    published = {f"forget{share:02}": places >= 400 - 4 * share for share in (1, 5, 10)}
    data = Examples({"labels": places % 4}, places, published=published | {"other": places < 20})
    whole = SAMPLERS.get("published").configure
    assert whole({}).shares(data) == [1, 5, 10] and whole({"split": "forget05"}).shares(data) == [5]

    def of(ratio, **options):
        return split_forget(data, ForgetSet(sampler="published", ratio=ratio, options=options)).forget.tolist()

    assert (
        of(10) == list(range(360, 400))
        and of(5, split="forget05") == list(range(380, 400))
        and of(5, split="other") == list(range(20))
    )
    with pytest.raises(
        MubenchError, match=r"2 published sets are 5 % of D; this data has forget01 of 1 %, .*other of 5 %"
    ):
        of(5)
    with pytest.raises(MubenchError, match=r"no published sets are 10 % of D; this data has forget05 of 5 %"):
        of(10, split="forget05")
    with pytest.raises(MubenchError, match=r"forget5 is no forget set of this data\. Did you mean 'forget05'"):
        of(5, split="forget5")
    half = data.select(places[::2])
    assert half.published["forget10"].sum() == 20
    with pytest.raises(MubenchError, match="It comes with none"):
        split_forget(examples(), ForgetSet(sampler="published", ratio=5))


def test_superclasses_are_the_data_s_own():
    split = drawn(50, classes=[1], by="superclass")
    assert set((split.forget % 10).tolist()) == {5, 6, 7, 8, 9} and len(split.forget) == 500
    with pytest.raises(MubenchError, match="superclass 7 is not in the training set"):
        drawn(50, classes=[7], by="superclass")
    with pytest.raises(MubenchError, match=r"by = 'superclas' is no grouping.*Did you mean 'superclass'"):
        drawn(50, classes=[1], by="superclas")


@pytest.mark.parametrize("sampler", [{"name": "class", "classes": [3]}, "hardest", "memorised"])
def test_seeds_that_draw_nothing_are_no_repetitions(base, sampler):
    content = {name: value for name, value in base.items() if name != "ratios"}
    with pytest.raises(SuiteError, match="draws nothing at random"):
        make_suite({**content, "sampler": sampler, "forget_seeds": [1, 2]})


def test_a_pool_of_halves_has_no_whole_class(base):
    content = {name: value for name, value in base.items() if name != "ratios"}
    with pytest.raises(SuiteError, match="halves cannot go with a whole that the data gives"):
        make_suite({**content, "halves": 4, "sampler": {"name": "class", "classes": [3]}})


def test_no_ratio_at_all_is_refused(base):
    with pytest.raises(SuiteError, match="ratios: name at least one"):
        make_suite({**base, "ratios": []})


def test_a_list_that_has_changed_since_it_was_planned_is_refused(base, tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(map(str, range(150))))
    suite = make_suite({**base, "tasks": "digits", "sampler": {"name": "from_file", "path": str(path)}, "ratios": 5})
    trial = next(iter(make_plan(suite).trials.values()))
    path.write_text("\n".join(map(str, range(1, 151))))
    with pytest.raises(MubenchError, match=r"ids\.txt: its SHA-256 is .*it is another list"):
        split_forget(load_task("digits", None, None)[1].train, trial.forget)


def test_a_list_for_each_ratio_is_no_sequence(base, tmp_path):
    for ratio in (2, 4):
        (tmp_path / f"{ratio}.txt").write_text("\n".join(map(str, range(40 * ratio))))
    content = {**base, "ratios": [2, 4], "sampler": {"name": "from_file", "path": str(tmp_path)}}
    assert make_suite(content).ratios == [2, 4]
    with pytest.raises(SuiteError, match=r"sequence: .* holds a list for each ratio"):
        make_suite({**content, "sequence": True})


def test_a_list_is_held_to_the_hash_that_its_suite_names(base, tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(map(str, range(150))))
    named = {"name": "from_file", "path": str(path), "sha256": "00" * 32}
    with pytest.raises(MubenchError, match=r"ids\.txt: its SHA-256 is .*it is another list"):
        make_plan(make_suite({**base, "tasks": "digits", "sampler": named, "ratios": 5}))


def test_a_folder_with_a_list_a_ratio_is_one_configuration(base, tmp_path):
    """Each ratio was a line of its own: no chart over ratios, no deletion capacity."""

    def planned(name: str, first: int) -> list:
        folder = tmp_path / name
        folder.mkdir()
        for ratio, size in ((2, 30), (4, 60)):
            (folder / f"{ratio}.txt").write_text("\n".join(map(str, range(first, first + size))))
        content = {**base, "tasks": "digits", "ratios": [2, 4], "sampler": {"name": "from_file", "path": str(folder)}}
        return list(make_plan(make_suite(content)).trials.values())

    ours, others = planned("ours", 0), planned("others", 7)
    assert len({trial.configuration for trial in ours}) == len({trial.method for trial in ours})
    assert not {trial.configuration for trial in ours} & {trial.configuration for trial in others}
    alone = [Trial.model_validate(trial.model_dump() | {"lists": None}) for trial in ours]
    assert [trial.id for trial in alone] == [trial.id for trial in ours], "no part of the id"
    assert len({trial.configuration for trial in alone}) == 2 * len({trial.configuration for trial in ours})
