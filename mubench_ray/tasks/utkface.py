"""UTKFace: 23,708 faces; the class is one of five age groups."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Card, ImageClassification, Splits, carve_validation, task
from mubench_ray.tasks.conversion import Row, converted, fingerprint
from mubench_ray.tasks.files import data_places
from mubench_ray.tasks.pictures import decode
from mubench_ray.trial import Training

#: First age of the second to the fifth group: 0-18, 19-29, 30-39, 40-59, 60 and over. Deep Unlearn does not say its own.
AGE_BOUNDS = (19, 30, 40, 60)
OLDEST = 116


@task("utkface", "UTKFace")
class UTKFace(ImageClassification):
    """The aligned and cropped pictures; the age is the first number of the file name. A class-proportional fifth is D_Test."""

    card = Card(
        title="UTKFace, aligned and cropped",
        source="https://susanqq.github.io/UTKFace",
        licence="non-commercial research",
        citation="Zhang, Song & Qi 2017, arXiv 1702.08423",
        revision="UTKFace.tar.gz of 2017",
        sizes={"train": 16121, "validation": 2846, "test": 4741},
        traps="Faces of real people. Three file names lack the race; the age is all that is read. Deep Unlearn's age bounds are not published: "
        "ours are 0-18, 19-29, 30-39, 40-59, 60+. The sizes are the paper's; a class-proportional draw may differ by a few.",
    )
    classes = 5
    channels = 3
    size = 224
    mean = (0.485, 0.456, 0.406)  # ImageNet's
    std = (0.229, 0.224, 0.225)
    training = Training(
        optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, epochs=50, batch_size=256, schedule="cosine"
    )

    def load(self) -> Splits:
        """Read the faces, decoded once at 224 px; raises DataError naming a file whose name has no age or that is no picture."""
        places = [
            place for place in data_places(self.data_dir, "UTKFace", "utkface") if place.name.lower() == "utkface"
        ]
        paths = next((found for place in places if (found := sorted(place.glob("*.jpg")))), [])
        if not paths:
            raise DataError(
                f"{self.name}: no .jpg in {', '.join(map(str, places))}. Unpack UTKFace.tar.gz ({self.card.source}) there."
            )
        labels = [age_group(path) for path in paths]
        everything = converted(
            self.name,
            ["utkface", 1, self.size, AGE_BOUNDS, fingerprint(paths[0].parent, paths)],
            lambda: self._rows(paths, labels),
        )
        rest, test = carve_validation(everything, 0.2)
        return Splits(*carve_validation(rest), test)

    def _rows(self, paths: list[Path], labels: list[int]) -> Iterator[Row]:
        for place, (path, label) in enumerate(zip(paths, labels)):
            yield {"image": decode(path, self.size), "labels": label, "source_index": place}


def age_group(path: Path) -> int:
    """0..4 from a name such as ``26_1_2_20170116184024662.jpg.chip.jpg``; raises DataError for a name without an age in 0..116."""
    age = path.name.split("_")[0]
    if not age.isdecimal() or int(age) > OLDEST:
        raise DataError(
            f"{path}: the name does not begin with an age in 0..{OLDEST}; expected AGE_GENDER_RACE_TIME.jpg."
        )
    return bisect_right(AGE_BOUNDS, int(age))
