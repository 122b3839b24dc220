"""Free Spoken Digit Dataset: 3,000 recordings of ten digits by six speakers."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Splits, carve_validation, task
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.files import archive_members, data_places, read_bytes
from mubench_ray.tasks.speech import SpeechClassification, read_wav
from mubench_ray.trial import Training

ARCHIVE = "free-spoken-digit-dataset.tar.gz"
NAME = re.compile(r"(?P<digit>\d+)_(?P<speaker>[^_/]+)_(?P<take>\d+)\.wav")
#: The data set's own split: takes 0 to 4 of every speaker and digit are D_Test.
TEST_TAKES = 5


@task("spoken_digits", "spoken-digits", "fsdd")
class SpokenDigits(SpeechClassification):
    """The folder ``recordings`` of files digit_speaker_take.wav, or the archive of it."""

    card = Card(
        title="Free Spoken Digit Dataset",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset",
        licence="CC BY-SA 4.0",
        citation="Jackson et al. 2016, doi:10.5281/zenodo.1342401",
        revision="v1.0.10 (3,000 recordings)",
        sizes={"train": 2300, "validation": 400, "test": 300},
        traps="The same six people speak in all splits. Recorded at 8 kHz, read at 16 kHz: nothing above 4 kHz."
        " Few last longer than a second; their end is cut.",
    )
    classes = 10
    class_names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    class_synonyms = {str(number): name for number, name in enumerate(class_names)}
    training = Training(optimizer="adamw", lr=5e-4, epochs=20, batch_size=32, weight_decay=0.01, schedule="linear")

    def load(self) -> Splits:
        """Read the recordings, decoded once; raises DataError naming what is missing or malformed."""
        source = self._source()
        examples = converted(
            self.name, ["spoken_digits", 2, self.samples, _made_from(source)], lambda: self._rows(source)
        )
        test = examples.columns["take"] < TEST_TAKES
        examples.columns.pop("take")
        speaker = examples.columns.pop("speaker").unique(return_inverse=True)[1]
        examples = replace(examples, groups={"speaker": speaker})
        train, validation = carve_validation(examples.select((~test).nonzero().flatten()))
        return Splits(train, validation, examples.select(test.nonzero().flatten()))

    def _source(self) -> Path:
        places = data_places(self.data_dir, "free-spoken-digit-dataset", "recordings", "spoken_digits")
        for place in places:
            for candidate in (place / "recordings", place / ARCHIVE):
                if candidate.exists():
                    return candidate
        raise DataError(
            f"{self.name}: no folder recordings and no {ARCHIVE} in {', '.join(map(str, places))}. Get it from {self.card.source}."
        )

    def _rows(self, source: Path) -> Iterator[Row]:
        files = sorted(source.glob("*.wav"))
        recordings = ((path.name, read_bytes(path)) for path in files) if files else archive_members(source, ".wav")
        for place, (name, content) in enumerate(recordings):
            found = NAME.fullmatch(Path(name).name)
            if not found:
                raise DataError(f"{source / name}: the name is not DIGIT_SPEAKER_TAKE.wav.")
            if int(found["digit"]) > 9:
                raise DataError(f"{source / name}: digit {found['digit']} is out of range 0..9.")
            waveform = read_wav(source / name, content, self.rate, self.samples)
            yield {
                "waveform": waveform,
                "labels": int(found["digit"]),
                "take": int(found["take"]),
                "speaker": zlib.crc32(found["speaker"].encode()),
                "source_index": place,
            }


def _made_from(source: Path) -> list:
    return fingerprint(source.parent, sorted(source.glob("*.wav")) if source.is_dir() else [source])
