"""Checkpoints that are no whole network, each told in one line by what a plan looks at; and networks of ours and files of weights, which are."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file, save_model
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.models import MODELS, get_model
from mubench_ray.models.base import check_checkpoint
from mubench_ray.results.store import Store
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.trainer import UnlearningArguments, UnlearningTrainer
from mubench_ray.trial import Recipe, Training
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.export import export
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.versions import weights_hash
from tests.models.conftest import seeded


def said(model, place, task):
    """What a plan refuses a checkpoint with, as an original."""
    with pytest.raises(MubenchError) as caught:
        check_checkpoint(model, str(place), task, finished=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def task(loaded):
    return loaded("image")[0]


@pytest.fixture
def saved(task, tmp_path):
    """A folder of a ViT, as transformers saves it."""
    network = seeded(lambda: get_model("vit-tiny").build(task))
    network.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit", network


def same(ours, theirs):
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_pickle_is_read_only_where_it_is_named(saved, task):
    folder, network = saved
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    told = said("vit-tiny", folder, task)
    assert (
        "its weights are pickles (pytorch_model.bin)" in told and f"Name that file ({folder}/pytorch_model.bin)" in told
    )
    model = get_model("vit-tiny", None, str(folder / "pytorch_model.bin"))
    model.check(task, finished=True)
    same(model.finished(task).state_dict(), network.state_dict())
    before = weights_hash(str(folder / "pytorch_model.bin"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.3}))
    assert weights_hash(str(folder / "pytorch_model.bin")) != before


class Trap:
    """What runs code where a pickle is trusted."""

    def __reduce__(self):
        return (pytest.fail, ("a checkpoint's code was run",))


def test_nothing_in_a_pickle_is_run(saved, task):
    folder, _ = saved
    torch.save({"weights": Trap()}, folder / "trap.pth")
    assert "nothing in it is run" in said("vit-tiny", folder / "trap.pth", task)
    torch.save([1, 2], folder / "list.pth")
    assert "holds no state dict" in said("vit-tiny", folder / "list.pth", task)


def test_adapters_and_code_are_refused(saved, task, tmp_path):
    import peft

    folder, network = saved
    adapted = peft.get_peft_model(network, peft.LoraConfig(target_modules="all-linear", r=2))
    adapted.save_pretrained(tmp_path / "adapter")
    told = said("vit-tiny", tmp_path / "adapter", task)
    assert "holds an adapter" in told and "merge_and_unload" in told
    adapted.save_pretrained(folder)  # beside a whole network transformers would put it on top, unasked
    assert "holds an adapter" in said("vit-tiny", folder, task)
    (folder / "adapter_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling_mine.Mine"}}))
    assert "brings code of its own (auto_map: modeling_mine.Mine), which is never run" in said("vit-tiny", folder, task)


def test_shards_cut_short_or_named_in_vain_are_refused(task, tmp_path):
    network = get_model("vit-tiny").build(task)
    for folder in ("cut", "vain"):
        network.save_pretrained(tmp_path / folder, max_shard_size="100KB")
    last = sorted((tmp_path / "cut").glob("model-*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    assert "cannot be loaded" in said("vit-tiny", tmp_path / "cut", task)
    index = tmp_path / "vain" / "model.safetensors.index.json"
    index.write_text(index.read_text()[:100])
    assert "cannot be loaded" in said("vit-tiny", tmp_path / "vain", task)
    (tmp_path / "empty").mkdir()
    assert "has no config.json and no model.safetensors" in said("vit-tiny", tmp_path / "empty", task)


def test_what_is_not_there_is_said_by_the_plan(task):
    with pytest.raises(MubenchError, match="'folder/of_mine' is not here, and as a hub id needs a revision"):
        check_checkpoint("vit-tiny", "folder/of_mine", task, finished=True)
    for elsewhere in ("data/weights.gguf", "/on/the/nodes"):
        assert check_checkpoint("vit-tiny", elsewhere, task) == [
            f"{elsewhere} is not here: the first trial that needs it looks for it"
        ]
    unpinned = next(name for name, model in MODELS if model.hub and not model.revision and model.modality == "image")
    with pytest.raises(MubenchError, match=r"pretrained: true needs a commit of .*@COMMIT"):
        check_checkpoint(unpinned, "published", task)


def test_published_pickles_are_read_where_the_commit_is_pinned(saved, task, tmp_path, monkeypatch):
    """From the hub's cache, as it lies on a machine without a network, with a processor and without safetensors."""
    folder, network = saved
    commit = 40 * "a"
    place = tmp_path / "hub" / "models--someone--tiny"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    (place / "snapshots").mkdir()
    folder.rename(place / "snapshots" / commit)
    transformers.ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=[0.4], image_std=[0.3]).save_pretrained(
        place / "snapshots" / commit
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MubenchError, match="cannot be loaded from safetensors"):
        get_model("vit-tiny", f"someone/tiny@{commit}").initial(task)
    model = copy.copy(get_model("vit-tiny"))
    model.hub, model.revision = "someone/tiny", commit
    taken = model.pretrained()
    same(taken.initial(task).state_dict(), network.state_dict())
    assert taken.processor.mean == (0.4,)


WEIGHTS = {
    "safetensors": lambda state, path: save_file({name: tensor.contiguous() for name, tensor in state.items()}, path),
    "pth": lambda state, path: torch.save(state, path),
    "in a dict": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "of DataParallel": lambda state, path: torch.save(
        {f"module.{name}": tensor for name, tensor in state.items()}, path
    ),
    "half": lambda state, path: torch.save({name: tensor.half() for name, tensor in state.items()}, path),
}


@pytest.mark.parametrize("how", WEIGHTS)
@pytest.mark.parametrize("name", ["cnn-small", "tinyvit-tiny", "resnet-tiny"])
def test_a_state_dict_of_any_network_is_an_original(task, tmp_path, name, how):
    network = seeded(lambda: get_model(name).build(task))
    if how == "half":
        network = network.half().float()
    path = tmp_path / f"mine.{'safetensors' if how == 'safetensors' else 'pth'}"
    WEIGHTS[how](network.state_dict(), path)
    assert "is weights alone" in check_checkpoint(name, str(path), task, finished=True)[0]
    model = get_model(name, None, str(path))
    same(model.finished(task).state_dict(), network.state_dict())
    assert not all(torch.equal(a, b) for a, b in zip(model.initial(task).parameters(), network.parameters()))
    same(get_model(name, str(path)).initial(task).state_dict(), network.state_dict())


def test_a_state_dict_with_an_older_transformers_names_is_an_original(task, saved, tmp_path):
    """As ``save_pretrained`` still writes them: ``attention.attention.query``, where the network itself now says ``q_proj`` or another name."""
    folder, network = saved
    state = load_file(folder / "model.safetensors")
    assert state.keys() != network.state_dict().keys(), (
        "transformers has gone back to one name: this test says nothing any more"
    )
    torch.save(state, tmp_path / "older.pth")
    check_checkpoint("vit-tiny", str(tmp_path / "older.pth"), task, finished=True)
    same(get_model("vit-tiny", None, str(tmp_path / "older.pth")).finished(task).state_dict(), network.state_dict())


def test_a_state_dict_of_another_network_is_refused(task, tmp_path):
    state = get_model("cnn-small").build(task).state_dict()
    names = list(state)
    torch.save(
        {name: tensor for name, tensor in state.items() if name != names[0]} | {"more": torch.zeros(1)},
        tmp_path / "a.pth",
    )
    told = said("cnn-small", tmp_path / "a.pth", task)
    assert f"it lacks 1 ({names[0]})" in told and "no place for 1 (more)" in told
    last = list(state)[-1]
    torch.save({**state, last: torch.zeros(3)}, tmp_path / "b.pth")
    assert f"another shape 1 ({last}: (3,), the network's (10,))" in said("cnn-small", tmp_path / "b.pth", task)


def test_weights_of_a_text_network_need_a_tokenizer(loaded, tmp_path):
    task, splits = loaded("text")
    model = get_model("bert-tiny")
    network = seeded(lambda: model.build(task))
    save_model(network, str(tmp_path / "mine.safetensors"))
    assert "has no tokenizer beside it" in said("bert-tiny", tmp_path / "mine.safetensors", task)
    model.save(network, task, tmp_path / "ours")
    again = get_model("bert-tiny", None, str(tmp_path / "ours"))
    again.check(task, finished=True)
    columns = splits.train.take(torch.arange(3))
    same(again.encode(task, columns), model.encode(task, columns))
    same(again.finished(task).state_dict(), network.state_dict())


def test_what_the_trainer_saves_is_an_original(tmp_path):
    """f_U of a trainer, to be unlearned once more; of weights alone the retrain is that of the registry's network."""
    given = {"unlearn_method": "neggrad", "data_name": "digits", "del_ratio": 10, "subset": 100, "use_cpu": True}
    out = tmp_path / "unlearned"
    trainer = UnlearningTrainer(
        UnlearningArguments(backbone="cnn-small", output_dir=str(out), training_kwargs={"epochs": 1}, **given)
    )
    trainer.unlearn()
    folder = trainer.save_model(str(tmp_path / "saved"))
    suite = {
        "name": "again",
        "tasks": {"name": "digits", "subset": 100},
        "methods": "original",
        "ratios": 10,
        "seeds": 42,
    }
    plan = make_plan(make_suite({**suite, "models": {"name": "cnn-small", "original": str(folder)}}))
    assert plan.retrains == make_plan(make_suite({**suite, "models": "cnn-small"})).retrains
    task, _ = load_task("digits", 100, None)
    loaded = get_artifact(plan.originals[0], ArtifactStore(out / "artifacts"))
    same(loaded.load_into(get_model("cnn-small").build(task)).state_dict(), trainer.model.state_dict())


def test_an_exported_artifact_is_an_original(tmp_path):
    Store(tmp_path / "results").create({"suite": "exported"})
    artifacts = ArtifactStore(tmp_path / "results" / "artifacts")
    recipe = Recipe(task="digits", subset=300, model="resnet-tiny", training=Training(epochs=0.2), seed=1)
    made = get_artifact(recipe, artifacts)
    folder = tmp_path / "exported"
    done = CliRunner().invoke(app, ["artifacts", "export", str(tmp_path / "results"), recipe.id, "--to", str(folder)])
    assert done.exit_code == 0 and f"Written: {folder}" in done.output.replace("\n", "")
    task, _ = load_task("digits", 300, None)
    model = get_model("resnet-tiny", None, str(folder))
    model.check(task, finished=True)
    same(model.finished(task).state_dict(), made.load_into(get_model("resnet-tiny").build(task)).state_dict())
    assert transformers.AutoConfig.from_pretrained(folder).id2label[9] == "9"
    with pytest.raises(MubenchError, match="holds something already"):
        export(tmp_path / "results", recipe.id, tmp_path / "exported")
    with pytest.raises(MubenchError, match="has no artifact 'original-0'; it has original-"):
        export(tmp_path / "results", "original-0", tmp_path / "elsewhere")


def test_an_exported_network_that_was_kept_is_an_original(tmp_path):
    Store(tmp_path / "results").create({"suite": "exported"})
    suite = {
        "name": "kept",
        "tasks": {"name": "digits", "subset": 100},
        "models": "vit-tiny",
        "methods": "ft",
        "ratios": 10,
    }
    (trial,) = make_plan(make_suite({**suite, "seeds": 1, "lrs": 1e-3})).trials.values()
    task, _ = load_task("digits", 100, None)
    network = seeded(lambda: get_model("vit-tiny").build(task))
    row = {"trial": trial.model_dump_json()}
    with pytest.raises(MubenchError, match=r"was not kept: run the suite with keep: all"):
        export(tmp_path / "results", trial.id, tmp_path / "to", row=row)
    ArtifactStore(tmp_path / "results" / "artifacts").keep(trial.id, network)
    export(tmp_path / "results", trial.id, tmp_path / "to", row=row)
    same(get_model("vit-tiny", None, str(tmp_path / "to")).finished(task).state_dict(), network.state_dict())


def test_every_task_that_names_its_classes_names_all_of_them():
    for name, each in TASKS:
        names = getattr(each, "class_names", ())
        assert not names or (len(names) == len(set(names)) == each.classes), name
