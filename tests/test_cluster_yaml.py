from pathlib import Path

import pytest
import yaml


def config():
    return yaml.safe_load((Path(__file__).parent.parent / "cluster.yaml").read_text())


def test_ray_accepts_it():
    """With its own defaults filled in, as `ray up` does before it asks the provider anything."""
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    validate_config(fillout_defaults(config()))


def test_ray_would_refuse_a_wrong_one():
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    with pytest.raises(ValidationError):
        validate_config({**fillout_defaults(config()), "max_workres": 3})


def test_every_node_asks_for_the_token():
    """RAY_AUTH_MODE is said on both sides, and the token is where Ray looks for it."""
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in config()[commands] if "ray start" in command]
        assert starts and all("RAY_AUTH_MODE=token" in command for command in starts)
    assert config()["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert "--dashboard-host=127.0.0.1" in config()["head_start_ray_commands"][-1]


def test_the_head_runs_no_trials_and_workers_scale():
    types = config()["available_node_types"]
    head = types[config()["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0} and head["max_workers"] == 0
    workers = [t for name, t in types.items() if name != config()["head_node_type"]]
    assert all(worker["min_workers"] == 0 < worker["max_workers"] for worker in workers)
    assert any(worker["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot" for worker in workers)
