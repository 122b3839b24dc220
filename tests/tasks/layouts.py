"""Small data sets in the original layouts of the real ones."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import wave
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image


def write_idx(path: Path, array: np.ndarray) -> Path:
    header = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def write_idx_images(folder: Path, suffix: str = ".gz") -> Path:
    """60,000 + 10,000 pictures; picture i is of class i % 10 and has that number in its first pixel, and its own and its part's in the last ones."""
    for part, rows in (("train", 60000), ("t10k", 10000)):
        labels = np.arange(rows) % 10
        image = np.zeros((rows, 28, 28), np.uint8)
        image[:, 0, 0] = labels
        image[:, 27, 26], image[:, 27, 27] = np.arange(rows) % 256, 100 * (part == "t10k")
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", image)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return folder


def write_cifar(folder: Path, files: dict[str, int], label_key: str, classes: int) -> Path:
    """Python 2 would have pickled byte strings as keys; so does this. Of fine labels every five are one of twenty coarse ones."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, rows in files.items():
        data = rng.integers(0, 256, (rows, 3072), dtype=np.uint8)
        batch = {b"data": data, label_key.encode(): [i % classes for i in range(rows)], b"batch_label": name.encode()}
        if label_key == "fine_labels":
            batch[b"coarse_labels"] = [i % classes // 5 for i in range(rows)]
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def picture(size: tuple[int, int], colour, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    mode = "L" if isinstance(colour, int) else "RGB"
    Image.new(mode, size, colour).save(buffer, kind)
    return buffer.getvalue()


def write_tiny_imagenet(root: Path, per_class: int = 20) -> Path:
    names = ["n01443537", "n01629819", "n02106662"]
    root.mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(reversed(names)) + "\n")
    for number, name in enumerate(names):
        folder = root / "train" / name / "images"
        folder.mkdir(parents=True)
        for i in range(per_class):
            (folder / f"{name}_{i}.JPEG").write_bytes(picture((64, 64), 100 if i == 0 else (80 * number, i, 0)))
    folder = root / "val" / "images"
    folder.mkdir(parents=True)
    lines = []
    for i in range(9):
        (folder / f"val_{i}.JPEG").write_bytes(picture((64, 64), (0, 0, 90)))
        lines.append(f"val_{i}.JPEG\t{names[i % 3]}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return root


def write_utkface(folder: Path, ages=range(5, 95)) -> Path:
    folder.mkdir(parents=True)
    for age in ages:
        (folder / f"{age}_0_1_20170109150557335.jpg.chip.jpg").write_bytes(picture((200, 200), (age, age, age)))
    return folder


GOOD, BAD = "a warm and funny film with a fine cast", "a dull and noisy film that never ends"


def write_imdb(root: Path, per_class: int = 20) -> Path:
    for part in ("train", "test"):
        for name, text in (("neg", BAD), ("pos", GOOD)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(per_class):
                (folder / f"{i}_{1 if name == 'neg' else 10}.txt").write_text(
                    f"{text}, said {part} critic {i}.<br /><br />", encoding="utf-8"
                )
    return root


def scores(rows: int) -> bytes:
    lines = [f"{i}\t{1.5 if i % 2 else -1.5}\t{GOOD if i % 2 else BAD}, {i} of {rows}" for i in range(rows)]
    return ("\r\n".join([*lines, f"{rows}\t0.0\tneither"]) + "\r\n").encode()


SNIPPETS = ("movieReview", "amazonReview", "nytEditorial")


def write_movie_snippets(folder: Path, rows: int = 60) -> Path:
    """The source distribution with the archive of the data inside it."""
    folder.mkdir(parents=True, exist_ok=True)
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for name in [*(f"{kind}Snippets_GroundTruth.txt" for kind in SNIPPETS), "tweets_GroundTruth.txt"]:
            add(archive, f"hutto_ICWSM_2014/{name}", scores(rows))
    path = folder / "vaderSentiment-2.5.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


DDI_DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<document id="d{n}">
  <sentence id="d{n}.s0" text="Aspirin raises the level of warfarin &amp; heparin."/>
  <sentence id="d{n}.s1" text="Aspirin raises the level of warfarin &amp; heparin.">
    <entity id="d{n}.s1.e0" charOffset="0-6" type="drug" text="Aspirin"/>
    <entity id="d{n}.s1.e1" charOffset="28-35" type="drug" text="warfarin"/>
    <entity id="d{n}.s1.e2" charOffset="39-45" type="drug" text="heparin"/>
    <pair id="d{n}.s1.p0" e1="d{n}.s1.e0" e2="d{n}.s1.e1" ddi="true" type="mechanism"/>
    <pair id="d{n}.s1.p1" e1="d{n}.s1.e0" e2="d{n}.s1.e2" ddi="true"/>
    <pair id="d{n}.s1.p2" e1="d{n}.s1.e1" e2="d{n}.s1.e2" ddi="false"/>
  </sentence>
</document>
"""


def write_ddi(path: Path, documents: int = 10, extra: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(documents):
            archive.writestr(f"DDICorpus/Train/DrugBank/d{n}.xml", DDI_DOCUMENT.format(n=n))
            archive.writestr(
                f"DDICorpus/Test/Test for DDI Extraction task/MedLine/d{n}.xml",
                DDI_DOCUMENT.format(n=n).replace("raises", "lowers"),
            )
        archive.writestr("DDICorpus/Test/Test for DrugNER task/MedLine/d0.xml", "<document/>")
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def wav(rate: int, samples: np.ndarray, width: int = 2) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2" if width == 2 else "u1").tobytes())
    return buffer.getvalue()


def tone(rate: int, hertz: float, seconds: float) -> np.ndarray:
    return np.round(8000 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate))


def write_spoken_digits(folder: Path, takes: int = 8, speakers: tuple[str, ...] = ("ada",)) -> Path:
    recordings = folder / "recordings"
    recordings.mkdir(parents=True)
    for digit in range(10):
        for speaker, take in product(speakers, range(takes)):
            (recordings / f"{digit}_{speaker}_{take}.wav").write_bytes(
                wav(8000, tone(8000, 200 + 100 * digit, 0.3 + 0.1 * take))
            )
    return folder


def write_speech_commands(root: Path) -> Path:
    words = ("yes", "no", "zero")
    for word in (*words, "_background_noise_"):
        (root / word).mkdir(parents=True)
        for i in range(6):
            (root / word / f"speaker{i}_nohash_0.wav").write_bytes(wav(16000, tone(16000, 300 + 50 * i, 1.0)))
    (root / "validation_list.txt").write_text("".join(f"{word}/speaker0_nohash_0.wav\n" for word in words))
    (root / "testing_list.txt").write_text("".join(f"{word}/speaker1_nohash_0.wav\n" for word in words))
    return root


def write_samsum(folder: Path, rows: int = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "val", "test"):
        dialogues = [
            {
                "id": f"{name}{i}",
                "dialogue": f"Ann: shall we meet at {i} for the {name}?\r\nBen: yes, at {i}!",
                "summary": f"Ann and Ben meet at {i}.",
            }
            for i in range(rows)
        ]
        (folder / f"{name}.json").write_text(json.dumps(dialogues), encoding="utf-8")
    return folder


def write_wiki_bio(folder: Path, people: int = 400) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    articles = {
        f"Person {i}": {
            "title": f"Person {i}",
            "extract": f"Person {i} was born in year {i} " + "and lived on " * (i % 7),
            "topic": "People",
        }
        for i in range(people)
    }
    articles["Stone"] = {"title": "Stone", "extract": "A stone is " + "very " * 99 + "hard.", "topic": "Nature"}
    (folder / "summaries_en-us.json").write_text(json.dumps(articles), encoding="utf-8")
    return folder


def write_biofact(folder: Path, people: int = 30) -> Path:
    (folder / "labeled").mkdir(parents=True, exist_ok=True)
    rows = [{"topic": f"P{i}", "output": f"P{i} is a painter, the {i}th. ", "annotations": None} for i in range(people)]
    (folder / "labeled" / "ChatGPT.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return folder


def write_nlvr2(root: Path, rows: int = 12) -> Path:
    """Two sentences about every pair of pictures."""
    root.mkdir(parents=True)
    for part in ("train", "dev", "test1", "test2"):
        lines = []
        for i in range(rows):
            name = f"{part}-{i // 2}-0"
            where = {"directory": 7} if part == "train" else {}
            lines.append(
                json.dumps(
                    {
                        "identifier": f"{name}-{i % 2}",
                        "sentence": f"there are {i} dogs",
                        "label": str(i % 3 == 0),
                        **where,
                    }
                )
            )
            folder = root / "images" / part / "7" if part == "train" else root / "images" / part
            folder.mkdir(parents=True, exist_ok=True)
            for side in (0, 1):
                (folder / f"{name}-img{side}.png").write_bytes(
                    picture((40, 30), (10 * (i // 2), 200 * side, sum(part.encode()) % 256), "PNG")
                )
        (root / f"{part}.json").write_text("\n".join(lines) + "\n")
    return root


def write_video(path: Path, shades: list[int]) -> Path:
    """A clip with one frame of each shade of grey."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for shade in shades:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), format="rgb24")
            for packet in stream.encode(frame.reformat(format="yuvj420p")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_ucf101(root: Path) -> Path:
    names = ("ApplyEyeMakeup", "Archery")
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    for file, clips in (("trainlist01.txt", range(1, 8)), ("testlist01.txt", range(8, 10))):
        lines = []
        for number, name in enumerate(names, 1):
            for clip in clips:
                inner = f"{name}/v_{name}_g01_c{clip:02}.avi"
                write_video(root / "UCF-101" / inner, [100 * number - 100 + 5 * clip + frame for frame in range(20)])
                lines.append(f"{inner} {number}\n" if file.startswith("train") else f"{inner}\n")
        (lists / file).write_text("".join(lines))
    return root


def write_xsum(root: Path, articles: int) -> Path:
    """Articles numbered from 1000 on, all of the test list."""
    folder = root / "bbc-summary-data"
    folder.mkdir(parents=True)
    for i in range(articles):
        (folder / f"{1000 + i}.summary").write_text(
            f"[SN]URL[SN]\nhttp://example.org/{i}\n\n[SN]TITLE[SN]\nTitle\n\n[SN]FIRST-SENTENCE[SN]\nSentence {i} says it all.\n\n"
            f"[SN]RESTBODY[SN]\nShare this with\nBody {i} begins.\n\nIt goes on.\n",
            encoding="utf-8",
        )
    lists = {"train": [], "validation": [], "test": [str(1000 + i) for i in range(articles)]}
    (root / "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json").write_text(json.dumps(lists))
    return root


def write_emoji(root: Path, each: int = 24) -> Path:
    """The npm package's folder: as many emoji of two categories, one in shades of red, the other of blue."""
    folder = root / "emoji-datasource-twitter" / "img" / "twitter" / "64"
    folder.mkdir(parents=True)
    entries = []
    for number in range(2 * each):
        shade = 60 + 180 * (number // 2) // each
        (folder / f"{number}.png").write_bytes(picture((64, 64), (shade, 0, 0) if number % 2 else (0, 0, shade), "PNG"))
        category = "Food & Drink" if number % 2 else "Animals & Nature"
        entries.append(
            {
                "short_name": f"thing_{number:02}",
                "image": f"{number}.png",
                "category": category,
                "has_img_twitter": True,
            }
        )
    (root / "emoji-datasource-twitter" / "emoji.json").write_text(json.dumps(entries))
    return root


def write_ddi_blurb(folder: Path, each: int = 8, **changed: list[str]) -> Path:
    """Rows of every label by BLURB's preprocessing, ``each`` a file and label; ``changed`` are the rows of a file in place of them."""
    labels = ("false", "effect", "mechanism", "advise", "int")
    folder.mkdir(parents=True)
    for name in ("train", "dev", "test"):
        rows = [
            f"{name}.d{n}.s0.p{place}\t{name} {n} says @DRUG$ and @DRUG$ {label}\tDDI-{label}"
            for n in range(each)
            for place, label in enumerate(labels)
        ]
        lines = ["index\tsentence\tlabel", *changed.get(name, rows)]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder
