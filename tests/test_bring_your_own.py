"""docs/bring-your-own.md: its files are written, its commands run, and what it says comes out."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.engine.external import evaluate
from mubench_ray.results.observations import load_results
from mubench_ray.suite import load_suite
from tests.tasks.own_data import CLASSES, pictures, rows, sounds, table


@pytest.fixture
def page(repository, tmp_path, monkeypatch):
    """The page's text; its files lie in the current folder, with data of the kind that it names."""
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MUBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    text = (repository / "docs" / "bring-your-own.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    for kind, content in blocks:
        if kind == "yaml":
            (tmp_path / f"{yaml.safe_load(content)['name']}.yaml").write_text(content)
    (tmp_path / "net.py").write_text(next(content for kind, content in blocks if kind == "python"))
    pictures(tmp_path / "pets", {"train": 14, "val": 3, "test": 6}, size=(32, 32))
    return text


def commands(text: str) -> list[list[str]]:
    """Every command of the page, in its order."""
    return [
        shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]


def invoke(command: list[str], code: int = 0) -> str:
    """Run a command of ours in this process, and give what it printed."""
    assert command[0] == "mubench"
    done = CliRunner().invoke(app, command[1:], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def train(folder) -> dict:
    """A network of the page trained for a moment on the page's pictures."""
    sys.path.insert(0, str(folder))
    try:
        from net import small_net
    finally:
        sys.path.remove(str(folder))
    from mubench_ray.tasks import TASKS

    task = TASKS.get('image_folder:{"path": "pets", "size": 32}')()
    columns = task.load().train.take(torch.arange(30))
    torch.manual_seed(0)
    network = small_net(3)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(10):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(columns["image"] / 255), columns["labels"]).backward()
        optimizer.step()
    return network.state_dict()


def test_from_a_folder_and_a_pth_to_a_leaderboard(page, tmp_path):
    state = train(tmp_path)
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, "pets.pth")
    state["9.bias"] = state["9.bias"] + 0.1
    torch.save(state, "unlearned.pth")
    plan, run, *_, evaluation = commands(page)
    told = invoke(plan)
    assert (
        "3 classes ('cat', 'dog', 'eel'); D 42, D_V 9, D_Test 18 examples" in told and "'module.' is taken off" in told
    )
    # One seed of the page's two, for time.
    suite = (tmp_path / "pets.yaml").read_text()
    (tmp_path / "pets.yaml").write_text(suite.replace("seeds: [42, 87]", "seeds: 42"))
    assert plan == ["mubench", "plan", "pets.yaml"] and run == ["mubench", "run", "pets.yaml"]
    mubench = shutil.which("mubench") or "mubench"
    done = subprocess.run([mubench, *run[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = load_results(tmp_path / "results" / "pets").to_pylist()
    methods = yaml.safe_load((tmp_path / "pets.yaml").read_text())["methods"]
    assert len(methods) == 2 + 8 and {row["method"] for row in results} == set(methods) and len(results) == 10
    assert {row["status"] for row in results} <= {"ok", "truncated"}
    # What it was made to forget is what the suite drew: the row lies beside the suite's.
    [split, *_] = sorted((tmp_path / "results" / "pets" / "splits").glob("*.json"))
    drawn = json.loads(split.read_text())
    (tmp_path / "forget.txt").write_text("\n".join(map(str, drawn["indices"])))
    assert "External" in invoke(evaluation)
    every = load_results(tmp_path / "results" / "pets").to_pylist()
    [row] = [row for row in every if row["method"] == "external"]
    assert (row["status"], row["forget_sha256"], len(every)) == ("ok", drawn["sha256"], 11)
    assert (row["sampler"], row["ratio"]) == ("class_balanced", 10)
    assert row["flos"] is row["seconds"] is row["retrain_time_efficiency"] is None
    assert row["test_accuracy"] is not None and row["retain_accuracy"] is not None and "its cost" in row["marks"]
    made = {path.name for path in (tmp_path / "results" / "pets" / "artifacts").glob("retrain-*")}
    assert len(made) == 1  # none was trained for it
    standings = (tmp_path / "results" / "pets" / "report" / "tables.md").read_text()
    ranking = standings[standings.index("Ranking") :]
    assert "External" in standings and "External" not in ranking.split("\n## ")[0].split("| rank |")[-1]
    # Given again it is the same row; another list is a set of its own, with a retrain of its own.
    again = (load_suite("pets.yaml"), "unlearned.pth", "forget.txt")
    assert evaluate(*again)[0].row["trial_id"] == row["trial_id"]
    assert len(load_results(tmp_path / "results" / "pets").to_pylist()) == 11
    (tmp_path / "forget.txt").write_text("\n".join(map(str, drawn["indices"][:3])))
    evaluate(*again)
    [other] = [row for row in load_results(tmp_path / "results" / "pets").to_pylist() if row["sampler"] == "from_file"]
    assert (other["forget_size"], other["status"]) == (3, "ok")


def test_each_further_section_plans(page, tmp_path):
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    table(tmp_path / "reviews.csv", rows(60))
    sounds(tmp_path / "calls", 12)
    files = sorted((tmp_path / "pets").rglob("*.png"))
    features = Features({"img": ImageFeature(), "kind": ClassLabel(names=list(CLASSES))})
    content = {"img": [str(path) for path in files], "kind": [CLASSES.index(path.parent.name) for path in files]}
    Dataset.from_dict(content, features=features).save_to_disk(str(tmp_path / "saved"))
    plans = [command for command in commands(page)[2:-1]]
    assert [command[2] for command in plans] == ["reviews.yaml", "calls.yaml", "saved.yaml"]
    for command in plans:
        told = invoke(command)
        assert "3 trials" in told and "D_Test" in told and "classes (" in told
    for name in ("image_folder:pets", "text_table"):
        assert name.partition(":")[0] in invoke(["mubench", "list", name])
    assert "FAIL" not in invoke(["mubench", "check", "image_folder:pets"])


def test_what_the_page_shows_of_a_misfit_is_what_is_said(page, tmp_path):
    from mubench_ray.errors import MubenchError

    state = {name: tensor for name, tensor in train(tmp_path).items() if name != "9.bias"}
    torch.save(state | {"9.weight": torch.zeros(7, 32)}, "pets.pth")
    shown = re.search(r"\n    (model module:.*)", page)[1]
    with pytest.raises(MubenchError) as refused:
        invoke(["mubench", "plan", "pets.yaml"])
    assert re.sub("@[0-9a-f]{8}", "@", str(refused.value)) == re.sub("@[0-9a-f]{8}", "@", shown)
