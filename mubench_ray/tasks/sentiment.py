"""What the sentiment tasks share: Rotten Tomatoes as a shifted test set."""

from __future__ import annotations

from pathlib import Path

from mubench_ray.errors import DataError
from mubench_ray.tasks.files import data_places, read_bytes


def rotten_tomatoes(data_dir: Path | None) -> list[tuple[str, int]]:
    """(snippet, 0 or 1) of Pang & Lee's sentence polarity data (rt-polarity.neg and .pos, Windows-1252), or nothing where it is not at hand."""
    for place in data_places(data_dir, "rt-polaritydata", "rotten_tomatoes"):
        files = [place / "rt-polarity.neg", place / "rt-polarity.pos"]
        there = [file.is_file() for file in files]
        if any(there) and not all(there):
            raise DataError(f"{place}: holds only one of rt-polarity.neg and rt-polarity.pos.")
        if all(there):
            lines = [
                (line, label)
                for label, file in enumerate(files)
                for line in read_bytes(file).decode("cp1252", "replace").splitlines()
            ]
            return [(line.strip(), label) for line, label in lines if line.strip()]
    return []
