"""UCF101: clips of 101 human actions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, Splits, carve_validation, task
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.examples import MappedExamples
from mubench_ray.tasks.files import data_places, find, read_text
from mubench_ray.tasks.video import VideoClassification, read_clip
from mubench_ray.trial import Training

LISTS = ("classInd.txt", "trainlist01.txt", "testlist01.txt")
#: Files that count as clips of UCF101-DS, and its names of classes that UCF101 writes otherwise.
CLIPS = (".avi", ".mp4", ".mkv", ".mov", ".webm")
OTHERWISE = {
    "BilliardsShot": "Billiards",
    "BasketballShooting": "Basketball",
    "CleanandJerk": "CleanAndJerk",
    "Breaststroke": "BreastStroke",
}


@task("ucf101", "UCF101", "ucf-101")
class UCF101(VideoClassification):
    """The folder UCF-101 of .avi files and the folder ucfTrainTestlist with the first official split; the folder UCF101-DS is the shifted set."""

    card = Card(
        title="UCF101 action recognition, split 01",
        source="https://www.crcv.ucf.edu/data/UCF101.php",
        licence="none stated; research use",
        citation="Soomro, Zamir & Shah 2012, arXiv 1212.0402",
        revision="UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip",
        sizes={"train": 8106, "validation": 1431, "test": 3783},
        traps="Clips of one recording (same g number) are near-duplicates: the lists keep them on one side, a random D_V and a random D_F do not. Kept as 16 "
        "frames of 112 x 112. trainlist01 has 9,537 clips; a class-proportional D_V may differ by a few from the sizes here.",
    )
    classes = 101
    shifted = ("ucf101_ds",)
    frames = 16
    channels = 3
    size = 112
    mean = (0.485, 0.456, 0.406)  # ImageNet's
    std = (0.229, 0.224, 0.225)
    training = Training(optimizer="adamw", lr=5e-5, epochs=10, batch_size=32, weight_decay=0.05, schedule="cosine")

    def load(self) -> Splits:
        """Read the clips, decoded once; raises DataError naming what is missing or malformed."""
        advice = f"Unpack the videos and the split lists of {self.card.source} there."
        lists = find(self.name, self.data_dir, ["ucfTrainTestlist", "ucf101/ucfTrainTestlist"], LISTS[1], advice)
        places = [
            place
            for place in data_places(self.data_dir, "UCF-101", "ucf101/UCF-101")
            if place.name == "UCF-101" and place.is_dir()
        ]
        if not places:
            raise DataError(
                f"{self.name}: no folder UCF-101 in {', '.join(map(str, data_places(self.data_dir)))}. {advice}"
            )
        numbers = self._classes(lists / LISTS[0])
        if len(numbers) == self.classes:
            self.class_names = tuple(sorted(numbers, key=lambda name: numbers[name]))
        train, test = (self._part(places[0], lists / name, numbers) for name in LISTS[1:])
        shift = next((p for p in data_places(self.data_dir, "UCF101-DS") if p.name == "UCF101-DS" and p.is_dir()), None)
        return Splits(*carve_validation(train), test, {"ucf101_ds": self._shifted(shift, numbers)} if shift else {})

    def _shifted(self, root: Path, numbers: dict[str, int]) -> MappedExamples:
        """The clips of UCF101-DS (Schiappa et al. 2023, arXiv 2207.01398): a folder for each of the classes it has, rows by class and file name."""
        listed = []
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            name = OTHERWISE.get(folder.name, folder.name)
            if name not in numbers:
                raise DataError(f"{folder}: class {folder.name!r} is not in {LISTS[0]}.")
            clips = sorted(path for path in folder.iterdir() if path.suffix.lower() in CLIPS)
            listed += [(clip, numbers[name]) for clip in clips]
        if not listed:
            raise DataError(f"{root}: holds no clips in folders of classes.")
        return self._decoded("ds", root, listed)

    def _classes(self, path: Path) -> dict[str, int]:
        numbers = {}
        for line_number, line in enumerate(read_text(path).splitlines(), 1):
            if line.strip():
                number, _, name = line.strip().partition(" ")
                if not number.isdecimal() or not 1 <= int(number) <= self.classes:
                    raise DataError(f"{path}:{line_number}: class number {number!r} is out of range 1..{self.classes}.")
                numbers[name] = int(number) - 1
        return numbers

    def _part(self, root: Path, path: Path, numbers: dict[str, int]) -> MappedExamples:
        listed = []
        for line_number, line in enumerate(read_text(path).splitlines(), 1):
            if line.strip():
                file = line.split()[0]
                name = file.split("/")[0]
                if name not in numbers:
                    raise DataError(f"{path}:{line_number}: class {name!r} is not in {LISTS[0]}.")
                listed.append((root / file, numbers[name]))
        # v_Archery_g07_c02.avi is the second clip of a recording.
        recordings = [file.stem.rpartition("_c")[0] or file.stem for file, _ in listed]
        number = torch.from_numpy(np.unique(recordings, return_inverse=True)[1])
        return replace(self._decoded(path.stem, root, listed), groups={"recording": number})

    def _decoded(self, part: str, root: Path, listed: list[tuple[Path, int]]) -> MappedExamples:
        def rows() -> Iterator[Row]:
            for place, (clip, label) in enumerate(listed):
                yield {"video": read_clip(clip, self.frames, self.size), "labels": label, "source_index": place}

        made_from = [
            "ucf101",
            1,
            self.frames,
            self.size,
            [label for _, label in listed],
            fingerprint(root, [clip for clip, _ in listed]),
        ]
        return converted(f"{self.name}-{part}", made_from, rows)
