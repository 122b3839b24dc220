import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.ddi import CLASSES, MARK, mark, read_pairs
from mubench_ray.tasks.movie_snippets import read_scores
from tests.tasks.layouts import DDI_DOCUMENT, GOOD, write_ddi, write_ddi_blurb, write_imdb, write_movie_snippets


def test_imdb_reads_folders_and_finds_rotten_tomatoes(tmp_path):
    write_imdb(tmp_path / "aclImdb")
    (tmp_path / "rt-polaritydata").mkdir()
    (tmp_path / "rt-polaritydata" / "rt-polarity.neg").write_bytes("poor\nclich\xe9\n".encode("cp1252"))
    (tmp_path / "rt-polaritydata" / "rt-polarity.pos").write_bytes(b"rich\n")
    task = TASKS.get("imdb")(tmp_path)
    splits = task.load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (34, 6, 40)
    row = splits.train.take(torch.tensor([33]))
    assert row["labels"].item() == 1 and task.texts.content[row["text"].item()].startswith(GOOD)
    assert "<br" not in "".join(task.texts.content)
    far = splits.shifted["rotten_tomatoes"]
    assert [task.texts.content[i] for i in far.columns["text"]] == [
        "poor",
        "cliché",
        "rich",
    ] and far.labels.tolist() == [0, 0, 1]
    held = set(splits.validation.columns["text"].tolist()) | set(splits.test.columns["text"].tolist())
    assert not held & set(task.texts.training)


def test_imdb_names_a_file_that_is_not_text(tmp_path):
    root = write_imdb(tmp_path / "aclImdb", 2)
    (root / "train" / "pos" / "1_10.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"train/pos/1_10\.txt: not UTF-8"):
        TASKS.get("imdb")(tmp_path).load()
    for path in (root / "train" / "pos").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"train/pos: holds no \.txt"):
        TASKS.get("imdb")(tmp_path).load()


def test_movie_snippets_come_from_the_archive_in_the_archive(tmp_path):
    write_movie_snippets(tmp_path)
    task = TASKS.get("movie_snippets")(tmp_path)
    splits = task.load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (
        40,
        8,
        12,
    )  # 30 a class: 6 test, 4 of 24 held out
    assert {name: len(part) for name, part in splits.shifted.items()} == {"amazon": 60, "tweets": 60, "editorials": 60}
    for part in (splits.train, splits.shifted["tweets"]):
        assert all(task.texts.content[i].startswith(GOOD) == bool(y) for i, y in zip(part.columns["text"], part.labels))


def test_malformed_scores_are_named_by_line(tmp_path):
    for line, message in (
        ("2\tx\ttext", "expected id, score and text"),
        ("2\t1.0", "expected id"),
        ("2\t4.5\ttext", r"out of range -4\.\.4"),
    ):
        with pytest.raises(DataError, match=rf"tweets\.txt:2: .*{message}"):
            read_scores(tmp_path / "tweets.txt", f"1\t0.5\tfine\r\n{line}\r\n".encode())


def test_ddi_marks_both_drugs_and_reads_classes(tmp_path):
    write_ddi(tmp_path / "DDICorpus-2013.zip")
    task = TASKS.get("ddi")(tmp_path)
    splits = task.load()
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (30, 30)
    content = task.texts.content
    assert content[:3] == [
        f"{MARK} raises the level of {MARK} & heparin.",
        f"{MARK} raises the level of warfarin & {MARK}.",
        f"Aspirin raises the level of {MARK} & {MARK}.",
    ]
    assert [CLASSES[y] for y in splits.test.labels[:3]] == ["mechanism", "int", "false"]


def test_ddi_unpacked_is_the_same(tmp_path):
    import zipfile

    path = write_ddi(tmp_path / "zip" / "DDICorpus-2013.zip")
    zipfile.ZipFile(path).extractall(tmp_path / "folder")
    packed, unpacked = TASKS.get("ddi")(tmp_path / "zip"), TASKS.get("ddi")(tmp_path / "folder")
    packed.load()
    unpacked.load()
    assert packed.texts.sha256 == unpacked.texts.sha256


def test_marking_overlapping_drugs_keeps_two_marks():
    assert mark("aspirin tablets help", (0, 7), (0, 15)) == f"{MARK} {MARK} help"
    assert mark("a and b", (6, 7), (0, 1)) == f"{MARK} and {MARK}"


BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><document><sentence text="&b;"/></document>"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "declares a document type or entities"),
        (DDI_DOCUMENT[:-40], "not well-formed XML"),
        (DDI_DOCUMENT.replace('type="mechanism"', 'type="magic"'), "class 'magic' is out of range"),
        (DDI_DOCUMENT.replace('ddi="false"', 'ddi="maybe"'), "class 'maybe' is out of range"),
        (DDI_DOCUMENT.replace('charOffset="39-45"', 'charOffset="39-450"'), "outside its sentence"),
        (DDI_DOCUMENT.replace('charOffset="39-45"', 'charOffset="x"'), "not START-END"),
        (DDI_DOCUMENT.replace('e2="d{n}.s1.e2"', 'e2="d{n}.s1.e9"'), "refers to 'd0.s1.e9'"),
    ],
)
def test_malformed_xml_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=f"bad\\.xml: .*{message}"):
        read_pairs(tmp_path / "bad.xml", content.replace("{n}", "0").encode())


def test_an_unsafe_or_incomplete_corpus_is_refused(tmp_path):
    write_ddi(tmp_path / "unsafe" / "DDICorpus-2013.zip", extra={"../../evil.xml": "<document/>"})
    with pytest.raises(DataError, match="unsafe name"):
        TASKS.get("ddi")(tmp_path / "unsafe").load()
    write_ddi(tmp_path / "empty" / "DDICorpus-2013.zip", documents=0)
    with pytest.raises(DataError, match="no pairs below 'Train'"):
        TASKS.get("ddi")(tmp_path / "empty").load()


def test_the_real_ddi_corpus_has_the_published_sizes(real_data):
    task = TASKS.get("ddi")(real_data("DDICorpus-2013.zip"))
    splits = task.load()
    assert {part: len(getattr(splits, part)) for part in task.card.sizes} == task.card.sizes
    assert splits.test.labels.bincount().tolist() == [4737, 302, 360, 221, 96]  # Herrero-Zazo et al.: 979 interactions
    assert all(text.count(MARK) == 2 for text in task.texts.content)


def test_the_real_snippets_have_the_sizes_on_the_card(real_data):
    task = TASKS.get("movie_snippets")(real_data("vaderSentiment-2.5.tar.gz"))
    splits = task.load()
    assert {part: len(getattr(splits, part)) for part in task.card.sizes} == task.card.sizes


ROWS = [
    "a.s0.p0\t@DRUG$ raises @DRUG$ .\tDDI-effect", 'a.s0.p1\t@DRUG$ and "x @DRUG$\tDDI-false', "b.s0.p0\ttake @DRUG$ @DRUG$\tDDI-advise",
]  # fmt: skip


def test_ddi_as_blurb_has_it_is_read_row_by_row_with_mu_benchs_labels(tmp_path):
    write_ddi_blurb(tmp_path / "ddi_blurb", 1, train=ROWS)
    task = TASKS.get("ddi_blurb")(tmp_path)
    splits = task.load()
    assert splits.train.labels.tolist() == [3, 0, 2] and splits.train.source_index.tolist() == [0, 1, 2]
    assert splits.validation.labels.tolist() == splits.test.labels.tolist() == [0, 3, 1, 2, 4]
    assert task.texts.content[1] == '@DRUG$ and "x @DRUG$' and task.texts.training == [0, 1, 2]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a\tb\tDDI-none"], r"train\.tsv:2: label 'DDI-none' is none of false, mechanism"),
        (["a\tb"], r"train\.tsv:2: has 2 columns, its first line 3"),
        ([], "holds no rows"),
    ],
)
def test_ddi_as_blurb_has_it_names_the_line_that_is_wrong(tmp_path, lines, said):
    write_ddi_blurb(tmp_path / "ddi_blurb", train=lines)
    with pytest.raises(DataError, match=said):
        TASKS.get("ddi_blurb")(tmp_path).load()


def test_imdb_at_128_tokens_is_imdb_cut_shorter(tmp_path):
    write_imdb(tmp_path / "aclImdb")
    short, long = (TASKS.get(name)(tmp_path) for name in ("imdb_128", "imdb"))
    assert (short.max_length, long.max_length) == (128, 256) and short.train_size == long.train_size
    assert short.load().train.source_index.tolist() == long.load().train.source_index.tolist()
