"""Where a row comes from, asked without running what lies in the current folder."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess

import mubench_ray.provenance


def test_git_settings_of_the_current_folder_are_not_obeyed(tmp_path, monkeypatch):
    theirs, mark = tmp_path / "theirs", tmp_path / "mark"
    theirs.mkdir()

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *arguments], cwd=theirs, check=True, capture_output=True)

    git("init", "-q")
    (theirs / "file").write_text("")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    git("config", "core.fsmonitor", f"touch {mark}; false")
    git("status")
    assert mark.exists()  # git itself obeys them
    mark.unlink()
    # As installed from a wheel: the package lies in no checkout.
    installed = tmp_path / "site-packages" / "mubench_ray" / "provenance.py"
    installed.parent.mkdir(parents=True)
    shutil.copy(mubench_ray.provenance.__file__, installed)
    spec = importlib.util.spec_from_file_location("installed_provenance", installed)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(theirs)
    assert module.git_commit() is None
    assert not mark.exists()
