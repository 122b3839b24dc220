import hashlib
import tarfile
import zipfile

import pytest

from mubench_ray.errors import DataError
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.files import Archive, archive_members, data_places, download, find
from tests.tasks.layouts import add, write_imdb


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/etc/evil.txt", "..\\evil.txt"])
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.txt", "good")
        archive.writestr(name, "evil")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        add(archive, "good.txt", b"good")
        add(archive, name, b"evil")
    for path in (tmp_path / "a.zip", tmp_path / "a.tar.gz"):
        with pytest.raises(DataError, match=f"{path.name}: holds the unsafe name"):
            list(archive_members(path, ".txt"))
    assert not (tmp_path.parent / "evil.txt").exists()


def test_members_come_sorted_whatever_the_archive(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name in ("b.txt", "a.txt", "c.jpg"):
            add(archive, name, name.encode())
    assert list(archive_members(tmp_path / "a.tar.gz", ".txt")) == [("a.txt", b"a.txt"), ("b.txt", b"b.txt")]


def test_a_damaged_archive_is_named(tmp_path):
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as archive:
        add(archive, "a.txt", bytes(range(256)) * 400)
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "whole.tar.gz").read_bytes()[:300])
    (tmp_path / "no.zip").write_bytes(b"not a zip")
    for name in ("cut.tar.gz", "no.zip", "missing.zip"):
        with pytest.raises(DataError, match=name):
            list(archive_members(tmp_path / name, ".txt"))


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mubench_ray.tasks.files.LARGEST", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "0" * 600)
        archive.writestr("b.txt", "0" * 600)
    with pytest.raises(DataError, match=r"bomb\.zip: unpacks to 1,200 bytes"):
        list(archive_members(tmp_path / "bomb.zip", ".txt"))


def test_the_data_folder_comes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MUBENCH_DATA", str(tmp_path / "env"))
    for root in ("env", "own"):
        (tmp_path / root / "set").mkdir(parents=True)
        (tmp_path / root / "set" / "marker").touch()
    assert find("t", tmp_path / "own", ["set"], "marker", "") == tmp_path / "own" / "set"
    assert find("t", None, ["set"], "marker", "") == tmp_path / "env" / "set"
    assert data_places(tmp_path / "own", "set")[:2] == [tmp_path / "own" / "set", tmp_path / "env" / "set"]
    with pytest.raises(DataError, match=r"t: no other in .*own.*env.* Unpack it"):
        find("t", tmp_path / "own", ["set"], "other", "Unpack it.")


def test_a_download_is_checked_and_whole(tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(b"content")
    url, target = source.as_uri(), tmp_path / "cache" / "file.bin"
    with pytest.raises(DataError, match="expected 0000"):
        download(url, target, "md5:0000")
    assert list(target.parent.iterdir()) == []
    assert download(url, target, f"md5:{hashlib.md5(b'content').hexdigest()}").read_bytes() == b"content"
    source.unlink()
    assert download(url, target, "md5:0000") == target
    with pytest.raises(DataError, match="did not answer"):
        download(url, tmp_path / "other", "md5:0000")


def published(path, folder):
    """The archive of a file, as its authors would announce it."""
    return Archive(path.as_uri(), f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}", folder)


def test_what_is_nowhere_is_fetched_and_unpacked_once(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("MUBENCH_CACHE", str(cache))
    monkeypatch.delenv("MUBENCH_DATA", raising=False)
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as archive:
        add(archive, "set/marker", b"a folder of its own")
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        archive.writestr("marker", "only the content")
    for name, folder in (("whole.tar.gz", "set"), ("flat.zip", "flat")):
        found = published(tmp_path / name, folder)
        assert find("t", None, [folder], "marker", "", found) == cache / folder
        (tmp_path / name).unlink()
        assert (
            find("t", None, [folder], "marker", "", found) == cache / folder and (cache / folder / "marker").is_file()
        )
    assert sorted(path.name for path in cache.iterdir()) == [".flat.lock", ".set.lock", "flat", "set"]


def test_an_archive_that_is_not_what_was_announced_leaves_nothing(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("MUBENCH_CACHE", str(cache))
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        add(archive, "../evil", b"evil")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "evil.tar").read_bytes()[:100])
    evil, cut = published(tmp_path / "evil.tar", "set"), published(tmp_path / "cut.tar", "set")
    other, gone = evil._replace(checksum="sha256:00"), evil._replace(url="file:///nowhere/evil.tar")
    for archive, message in ((other, "expected 00"), (gone, "did not answer"), (evil, "unsafe name"), (cut, "cut.tar")):
        with pytest.raises(DataError, match=rf"t: no marker in .*set.*{message}.* Unpack it"):
            find("t", None, ["set"], "marker", "Unpack it.", archive)
        assert not (cache / "set").exists() and not list(cache.glob(".set.[0-9]*"))
    assert not (cache / "evil").exists() and not (tmp_path / "evil").exists()


def test_a_data_set_comes_from_its_archive(tmp_path, monkeypatch):
    """IMDB's, made here in its layout."""
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    write_imdb(tmp_path / "aclImdb")
    with tarfile.open(tmp_path / "aclImdb_v1.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "aclImdb", "aclImdb")
    monkeypatch.setattr("mubench_ray.tasks.imdb.ARCHIVE", published(tmp_path / "aclImdb_v1.tar.gz", "aclImdb"))
    splits = TASKS.get("imdb")(tmp_path / "empty").load()
    assert len(splits.train) + len(splits.validation) == len(splits.test) == 40
