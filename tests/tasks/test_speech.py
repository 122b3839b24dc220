import numpy as np
import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.speech import read_wav
from tests.tasks.conftest import left_over
from tests.tasks.layouts import tone, wav, write_speech_commands, write_spoken_digits


def test_a_recording_is_resampled_padded_and_cut(tmp_path):
    same = read_wav(tmp_path / "a", wav(16000, tone(16000, 440, 0.5)), 16000, 16000)
    assert np.array_equal(same[:8000], tone(16000, 440, 0.5)) and not same[8000:].any()
    faster = read_wav(tmp_path / "a", wav(8000, tone(8000, 440, 0.5)), 16000, 16000)
    assert np.abs(faster[500:7500].astype(int) - same[500:7500]).max() < 80  # 1 % of the amplitude, away from the ends
    assert len(read_wav(tmp_path / "a", wav(16000, tone(16000, 440, 3)), 16000, 16000)) == 16000
    stereo = np.stack([tone(16000, 440, 0.5), -tone(16000, 440, 0.5)], 1)
    assert not read_wav(tmp_path / "a", wav(16000, stereo), 16000, 16000).any()


def test_damaged_recordings_are_named(tmp_path):
    whole = wav(16000, tone(16000, 440, 0.1))
    for content, message in (
        (whole[:1000], "truncated"),
        (whole[:20], "not a readable WAV"),
        (b"", "not a readable WAV"),
        (wav(16000, np.zeros(0)), "empty"),
        (wav(16000, np.full(100, 128), width=1), "8-bit"),
    ):
        with pytest.raises(DataError, match=f"/x\\.wav: .*{message}"):
            read_wav(tmp_path / "x.wav", content, 16000, 16000)


def test_spoken_digits_are_split_by_take(tmp_path, cache):
    write_spoken_digits(tmp_path / "free-spoken-digit-dataset", speakers=("ada", "bob"))
    task = TASKS.get("spoken_digits")(tmp_path)
    splits = task.load()
    assert splits.test.groups["speaker"].bincount().tolist() == [50, 50]
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (60, 100)
    row = splits.test.take(torch.tensor([27]))
    blank = task.blank(1)
    assert {key: (value.shape, value.dtype) for key, value in blank.items()} == {
        key: (value.shape, value.dtype) for key, value in row.items()
    }
    pitch = torch.fft.rfft(row["waveform"][0, :4800].float()).abs().argmax() * 16000 / 4800
    assert abs(pitch - (200 + 100 * row["labels"].item())) < 4
    assert len(left_over(cache)) == 1


def test_a_digit_out_of_range_and_a_broken_recording_leave_nothing(tmp_path, cache):
    folder = write_spoken_digits(tmp_path / "free-spoken-digit-dataset", 1) / "recordings"
    (folder / "11_ada_0.wav").write_bytes(wav(8000, tone(8000, 300, 0.2)))
    with pytest.raises(DataError, match=r"11_ada_0\.wav: digit 11 is out of range"):
        TASKS.get("spoken_digits")(tmp_path).load()
    (folder / "11_ada_0.wav").unlink()
    (folder / "3_ada_0.wav").write_bytes(wav(8000, tone(8000, 300, 0.2))[:-100])
    with pytest.raises(DataError, match=r"3_ada_0\.wav: .*truncated"):
        TASKS.get("spoken_digits")(tmp_path).load()
    assert left_over(cache) == []


def test_speech_commands_follow_the_lists(tmp_path):
    root = write_speech_commands(tmp_path / "speech_commands_v0.02")
    splits = TASKS.get("speech_commands")(tmp_path).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 3, 3)
    assert splits.test.labels.tolist() == [18, 33, 34]  # no, yes, zero
    (root / "testing_list.txt").write_text("yes/nobody.wav\n")
    with pytest.raises(DataError, match=r"testing_list\.txt: names 'yes/nobody\.wav'"):
        TASKS.get("speech_commands")(tmp_path).load()
    (root / "testing_list.txt").unlink()
    with pytest.raises(DataError, match=r"testing_list\.txt: cannot be read"):
        TASKS.get("speech_commands")(tmp_path).load()


def test_the_real_recordings_have_the_sizes_on_the_card(real_data):
    task = TASKS.get("spoken_digits")(real_data("free-spoken-digit-dataset.tar.gz"))
    splits = task.load()
    assert {part: len(getattr(splits, part)) for part in task.card.sizes} == task.card.sizes
    assert splits.test.labels.bincount().tolist() == [30] * 10
