"""Speech Commands: one-second recordings of 35 words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Splits, task
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.examples import MappedExamples
from mubench_ray.tasks.files import Archive, find, read_bytes, read_text
from mubench_ray.tasks.speech import SpeechClassification, read_wav
from mubench_ray.trial import Training

# fmt: off
WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go",
    "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven",
    "sheila", "six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)
# fmt: on
LISTS = ("validation_list.txt", "testing_list.txt")
ARCHIVE = Archive(
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    "speech_commands_v0.02",
)


@task("speech_commands", "speech-commands")
class SpeechCommands(SpeechClassification):
    """A folder a word; validation_list.txt and testing_list.txt name D_V and D_Test, the rest is D. Downloaded (2.4 GB) where it is nowhere."""

    card = Card(
        title="Speech Commands v0.02",
        source=ARCHIVE.url,
        licence="CC BY 4.0",
        citation="Warden 2018, arXiv 1804.03209",
        revision="v0.02",
        sizes={"train": 84843, "validation": 9981, "test": 11005},
        traps="MU-Bench's paper says 85K, but its forget list numbers the 51,094 rows of superb/ks (v0.01, 12 classes): it does not fit these rows. "
        "The folder _background_noise_ is no word. The lists are drawn by speaker; D_V is the data set's own.",
    )
    carves_validation = False
    classes = 35
    class_names = WORDS
    training = Training(optimizer="adamw", lr=5e-5, epochs=5, batch_size=32, weight_decay=0.0, schedule="linear")

    def load(self) -> Splits:
        """Read the recordings, decoded once; raises DataError naming what is missing or malformed."""
        folders = ["speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02", "speech_commands"]
        root = find(self.name, self.data_dir, folders, LISTS, f"Unpack {ARCHIVE.url} there.", ARCHIVE)
        held = [self._listed(root / name) for name in LISTS]
        everything = sorted(path.relative_to(root).as_posix() for word in WORDS for path in (root / word).glob("*.wav"))
        known = set(everything)
        for name, listed in zip(LISTS, held):
            if lost := [file for file in listed if file not in known]:
                raise DataError(
                    f"{root / name}: names {lost[0]!r}, which is not there ({len(lost)} missing); unpack the archive again."
                )
        apart = {file for listed in held for file in listed}
        train = [file for file in everything if file not in apart]
        return Splits(
            self._part(root, "train", train),
            self._part(root, "validation", held[0]),
            self._part(root, "test", held[1]),
        )

    def _listed(self, path: Path) -> list[str]:
        files = sorted(read_text(path).split())
        for file in files:
            if file.split("/")[0] not in WORDS:
                raise DataError(f"{path}: {file!r} is not of one of the {len(WORDS)} words.")
        return files

    def _part(self, root: Path, part: str, files: list[str]) -> MappedExamples:
        def rows() -> Iterator[Row]:
            for place, file in enumerate(files):
                path = root / file
                waveform = read_wav(path, read_bytes(path), self.rate, self.samples)
                yield {"waveform": waveform, "labels": WORDS.index(file.split("/")[0]), "source_index": place}

        return converted(
            f"{self.name}-{part}",
            ["speech_commands", 1, part, fingerprint(root, [root / file for file in files])],
            rows,
        )
