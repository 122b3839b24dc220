"""Small data of one's own, written for a test."""

from __future__ import annotations

import csv
import json
import wave
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "eel")


def pictures(
    root: Path, counts: dict[str, int] | int, classes: tuple[str, ...] = CLASSES, size: tuple[int, int] = (12, 10)
) -> Path:
    """PNG pictures, of so many a class a split (a number: without splits): each class of its own brightness, with some noise."""
    noise = np.random.default_rng(0)
    for split, count in ({"": counts} if isinstance(counts, int) else counts).items():
        for number, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                pixels = 30 + 90 * number + noise.integers(0, 30, (size[1], size[0], 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{place:03}.png")
    return root


def sounds(root: Path, count: int, seconds: float = 0.1, rate: int = 8000) -> Path:
    """WAV files of 16 bits, a tone a class."""
    times = np.arange(round(rate * seconds)) / rate
    for number, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for place in range(count):
            tone = 8000 * np.sin(2 * np.pi * 200 * (number + 1) * times + place)
            with wave.open(str(root / name / f"{place:03}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(rate)
                file.writeframes(tone.astype("<i2").tobytes())
    return root


def clips(root: Path, count: int, frames: int = 3) -> Path:
    """Folders of frames, a class of its own brightness."""
    for number, name in enumerate(CLASSES):
        for place in range(count):
            folder = root / name / f"clip{place:03}"
            folder.mkdir(parents=True)
            for frame in range(frames):
                pixels = np.full((8, 8, 3), 30 + 90 * number + 5 * frame + place, np.uint8)
                Image.fromarray(pixels).save(folder / f"{frame:02}.png")
    return root


def rows(count: int) -> list[dict[str, str]]:
    """Texts with a second text, a label and a split."""
    words = {"good": "fine lovely sunny", "bad": "poor dull rainy"}
    found = []
    for place in range(count):
        label = ("good", "bad")[place % 2]
        split = "test" if place % 5 == 4 else "train"
        found.append(
            {"review": f"a {words[label]} day number {place}", "title": f"day {place}", "stars": label, "part": split}
        )
    return found


def table(path: Path, content: list[dict[str, str]]) -> Path:
    """The rows as a table of the kind that the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(content), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(content[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(content)
    return path
