"""Files are written whole or not at all."""

import pytest

from mubench_ray.files import hidden, read_json, sha256, whole, write


def test_a_file_is_the_new_one_or_as_it_was(tmp_path):
    path = tmp_path / "made" / "of.json"
    write(path, '{"a": 1}')
    assert read_json(path) == {"a": 1}
    before = sha256(path)
    with pytest.raises(ZeroDivisionError), whole(path) as partial:
        assert partial == hidden(path) and not partial.exists()
        partial.write_text("half of")
        1 / 0  # noqa: B018 - what goes wrong in the middle
    assert [each.name for each in path.parent.iterdir()] == ["of.json"] and sha256(path) == before


def test_what_was_never_begun_says_so(tmp_path):
    with pytest.raises(FileNotFoundError), whole(tmp_path / "nothing"):
        """Nothing is written."""
    assert not list(tmp_path.iterdir())


def test_a_status_says_what_is_done_with_its_row():
    from mubench_ray.status import FINAL, RETRIED, STATUSES, USABLE

    assert STATUSES == ("ok", "truncated", "diverged", "out_of_memory", "failed")
    assert USABLE == ("ok", "truncated") and {*FINAL, *RETRIED} == {*STATUSES} and not {*FINAL} & {*RETRIED}
    assert "diverged" in FINAL  # it would diverge again
