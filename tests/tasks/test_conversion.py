import numpy as np
import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.conversion import CHUNK, converted, fingerprint
from mubench_ray.tasks.examples import carve_validation
from tests.tasks.conftest import left_over

ROWS = 2 * CHUNK + 10


def rows(count=ROWS):
    for i in range(count):
        yield {
            "image": np.full((2, 3), i % 251, np.uint8),
            "wave": np.array([i, -i], np.int16),
            "labels": i % 3,
            "source_index": i,
        }


def test_mapped_examples_are_what_was_written():
    examples = converted("numbers", ["a", 1], rows)
    assert len(examples) == ROWS and examples.labels[:4].tolist() == [0, 1, 2, 0]
    taken = examples.take(torch.tensor([ROWS - 1, 0, CHUNK]))
    assert taken["image"].dtype == torch.uint8 and taken["image"].shape == (3, 2, 3)
    assert taken["wave"].tolist() == [[ROWS - 1, 1 - ROWS], [0, 0], [CHUNK, -CHUNK]]
    assert taken["labels"].tolist() == [i % 3 for i in (ROWS - 1, 0, CHUNK)]


def test_selecting_composes_and_copies_nothing():
    examples = converted("numbers", ["a", 1], rows)
    train, validation = carve_validation(examples)
    assert train.mapped is examples.mapped
    half = train.select(torch.arange(0, len(train), 2)).select(torch.tensor([3]))
    wanted = train.source_index[6].item()
    assert half.take(torch.tensor([0]))["wave"].tolist() == [[wanted, -wanted]] and half.source_index.tolist() == [
        wanted
    ]
    assert not set(train.source_index.tolist()) & set(validation.source_index.tolist())


def test_a_second_call_reads_what_the_first_wrote():
    converted("numbers", ["a", 1], rows)

    def never():
        raise AssertionError("converted again")

    assert len(converted("numbers", ["a", 1], never)) == ROWS
    with pytest.raises(AssertionError):
        converted("numbers", ["a", 2], never)


def test_a_failure_halfway_leaves_nothing(cache):
    def broken():
        yield from rows(CHUNK + 5)
        raise DataError("x.jpg: not a readable picture")

    with pytest.raises(DataError, match=r"x\.jpg"):
        converted("numbers", ["a", 1], broken)
    assert left_over(cache) == []
    assert len(converted("numbers", ["a", 1], rows)) == ROWS


def test_no_examples_and_no_room_are_said(cache, monkeypatch, tmp_path):
    with pytest.raises(DataError, match="no examples"):
        converted("numbers", ["none"], list)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="MUBENCH_CACHE"):
        converted("numbers", ["a", 1], rows)


def test_a_fingerprint_changes_with_its_files(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    first = fingerprint(tmp_path, [path])
    path.write_text("22")
    assert fingerprint(tmp_path, [path]) != first
    with pytest.raises(DataError, match="/b: cannot be read"):
        fingerprint(tmp_path, [tmp_path / "b"])
