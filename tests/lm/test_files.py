"""Files are whole or not there, what killed processes leave is removed, and a folder has one writer at a time."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lm.files import locked, write_json

ROOT = Path(__file__).parents[2]


def start(code):
    """Start Python code that prints a line when it is ready, and return its process then."""
    code = f"import sys; from pathlib import Path; from lm.files import locked, replacing\n{code}"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True, cwd=ROOT)
    assert process.stdout.readline() == "ready\n"
    return process


def names(folder):
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", float("nan"))
    assert names(tmp_path) == ["a.json"] and (tmp_path / "a.json").read_text() == "1\n"


def test_drafts_of_a_killed_process_are_removed_by_the_next_writer_and_those_of_a_living_one_are_not(tmp_path):
    (tmp_path / ".mine.txt").write_text("kept")
    code = f"with replacing(Path({str(tmp_path)!r}, 'a')) as draft:\n"
    code += "    draft.write_text('half'); print('ready', flush=True); sys.stdin.read()"
    with start(code) as writer:
        drafts = set(names(tmp_path)) - {".mine.txt"}
        write_json(tmp_path / "b", 1)
        assert len(drafts) == 1 and drafts < set(names(tmp_path))
        writer.kill()
    assert writer.returncode == -signal.SIGKILL and drafts < set(names(tmp_path))
    write_json(tmp_path / "c", 1)
    assert names(tmp_path) == [".mine.txt", "b", "c"]


def test_a_folder_has_one_writer_who_is_named_until_it_ends(tmp_path):
    folder = tmp_path / "run"
    with start(f"with locked(Path({str(folder)!r})): print('ready', flush=True); sys.stdin.read()") as holder:
        message = f"^results must be written by one process at a time, got {folder} in use by process {holder.pid}$"
        with pytest.raises(OSError, match=message), locked(folder):
            pass
        holder.kill()
    with locked(folder):
        pass


def test_errors_while_a_folder_is_held_are_not_those_of_the_lock(tmp_path):
    with pytest.raises(PermissionError, match=r"^mine$"), locked(tmp_path):
        raise PermissionError("mine")


def test_a_folder_that_cannot_be_held_is_refused_and_a_full_disk_only_takes_the_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"can be written, got {tmp_path}/file/run: Not a directory"):
        locked(tmp_path / "file" / "run").__enter__()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with locked(tmp_path):
            assert (tmp_path / ".lock").read_bytes() == b""
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
