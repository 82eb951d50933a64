"""The store keeps whole parts only, for one writer and one configuration."""

import fcntl
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from sim.engine.store import digest, open_store

SETTINGS = {"seed": 1, "profile": {"n": [10, 20], "replicates": 5}}
TABLE = pa.table({"x": [1.5, 2.5]})
PART = b"what the methods of a task found"


@pytest.fixture
def folder(tmp_path):
    """Return a folder with two saved parts."""
    with open_store(tmp_path / "study", SETTINGS) as store:
        for index in (0, 3):
            store.save_part(index, PART)
    return tmp_path / "study"


def save_tables(store, tables, inputs=""):
    """Save tables as the complete set."""
    store.discard_tables()
    for name, table in tables.items():
        store.save_table(name, table)
    store.finish_tables(inputs)


def full(*arguments):
    """Stand for a call of the system on a disk that is full."""
    raise OSError(28, "No space left on device")


def write_two_row_groups(store, *groups):
    """Write a table of row groups, of which the second one does not fit."""
    with store.write_table("metrics", groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group)


def parts_of(folder):
    """Return the files of the parts."""
    return sorted((folder / "parts").iterdir())


def test_saved_parts_are_read_back(folder):
    with open_store(folder, SETTINGS) as store:
        parts = store.parts()
        assert list(store.parts({3, 4})) == [3] and store.saved_parts() == 2
    assert sorted(parts) == [0, 3] and all(part.read_bytes() == PART for part in parts.values())
    assert json.loads((folder / "config.json").read_text()) == SETTINGS


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty", "misnamed", "of another task"])
def test_a_damaged_part_is_named_and_dropped(folder, capsys, damage):
    path = parts_of(folder)[0]
    content = bytearray(path.read_bytes())
    if damage in ("misnamed", "of another task"):
        name = "000000.arrow" if damage == "misnamed" else path.name.replace("000000", "000001")
        path = path.rename(path.with_name(name))
    else:
        content[20] ^= 1
        path.write_bytes({"truncated": content[:-9], "altered": content, "empty": b""}[damage])
    with open_store(folder, SETTINGS) as store:
        assert list(store.parts()) == [3]
    assert capsys.readouterr().err == f"{path} does not match its checksum and is computed again\n"
    assert not path.exists()


def test_a_part_of_other_settings_is_not_taken_over(folder, capsys):
    (folder / "config.json").unlink()
    with open_store(folder, SETTINGS | {"seed": 2}) as store:
        assert store.parts() == {}
    assert capsys.readouterr().err.count("does not match its checksum") == 2


def test_what_a_kill_left_half_written_is_swept_away(folder):
    leftovers = [folder / "parts" / "000001-0.arrow.tmp", folder / "metrics.parquet.tmp"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    with open_store(folder, SETTINGS) as store:
        assert list(store.parts()) == [0, 3]
    assert not any(leftover.exists() for leftover in leftovers)


def test_a_write_that_fails_leaves_no_part(folder, monkeypatch):
    with open_store(folder, SETTINGS) as store:
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left on device"):
            store.save_part(1, PART)
        assert list(store.parts()) == [0, 3]


def test_tables_count_once_they_are_on_the_disk_and_parts_are_known_by_their_checksum(folder, monkeypatch):
    with open_store(folder, SETTINGS) as store:
        monkeypatch.setattr(os, "fsync", full)
        store.save_part(1, PART)
        for save in (lambda: store.save_table("runs", TABLE), store.finish_tables):
            with pytest.raises(OSError, match="No space left on device"):
                save()
        assert list(store.parts()) == [0, 1, 3] and not store.tables_are_complete()
        assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"seed": 2, "profile": SETTINGS["profile"]}, "seed: 1 -> 2"),
        ({"seed": 1, "profile": {"n": [10, 40], "replicates": 5}}, r"profile.n\[1\]: 20 -> 40"),
        ({"seed": 1, "profile": {"n": [10], "replicates": 5}}, r"profile.n: \[10, 20\] -> \[10\]"),
        ({"seed": 1}, "profile: .* -> .nothing."),
        (SETTINGS | {"table": "t"}, "table: .nothing. -> .t."),
    ],
)
def test_changed_settings_are_refused_with_the_difference_and_the_remedies(folder, settings, difference):
    message = f"resume with the settings it began with, got {difference}. Remedies: choose another --output, or delete"
    with pytest.raises(ValueError, match=message), open_store(folder, settings):
        pass
    with open_store(folder, SETTINGS) as store:
        assert len(store.parts()) == 2


def test_many_differences_are_cut_short(folder):
    with pytest.raises(ValueError, match="; and 3 more"), open_store(folder, dict.fromkeys("abcdef", 0)):
        pass


def test_settings_that_are_no_json_are_refused(folder):
    (folder / "config.json").write_text('{"seed": ')
    with (
        pytest.raises(ValueError, match=r"config\.json must be the JSON that an earlier run wrote"),
        open_store(folder, SETTINGS),
    ):
        pass


def test_a_second_process_is_refused_until_the_first_has_ended(folder):
    code = "import sys; from pathlib import Path; from sim.engine.store import open_store\n"
    code += f"with open_store(Path({str(folder)!r}), {SETTINGS!r}): print('open', flush=True); sys.stdin.read()"
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True, cwd=root) as first:
        try:
            assert first.stdout.readline() == "open\n"
            message = f"written by one process at a time, got .* in use by process {first.pid}"
            with pytest.raises(OSError, match=message), open_store(folder, SETTINGS):
                pass
        finally:
            first.kill()
    with open_store(folder, SETTINGS) as store:  # the lock of a killed process is gone
        assert len(store.parts()) == 2


def test_who_only_looks_at_a_lock_keeps_nobody_from_taking_it(folder, monkeypatch):
    with open(folder / ".lock") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda seconds: fcntl.flock(look, fcntl.LOCK_UN))
        with open_store(folder, SETTINGS) as store:
            assert len(store.parts()) == 2


def test_shards_share_a_folder_that_none_else_may_write_to(folder):
    with open_store(folder, SETTINGS, (0, 2)) as first, open_store(folder, SETTINGS, (1, 2)) as second:
        for index, store in enumerate((first, second)):
            store.save_part(10 + index, PART)
        with (
            pytest.raises(OSError, match=r"got .* in use by shards of the study"),
            open_store(folder, SETTINGS),
        ):
            pass
        with (
            pytest.raises(OSError, match=f"got .* in use by process {os.getpid()}"),
            open_store(folder, SETTINGS, (1, 2)),
        ):
            pass
        with pytest.raises(ValueError, match="seed: 1 -> 2"), open_store(folder, SETTINGS | {"seed": 2}, (0, 3)):
            pass
    with open_store(folder, SETTINGS) as store:
        assert sorted(store.parts()) == [0, 3, 10, 11]
        with (
            pytest.raises(OSError, match=f"got .* in use by process {os.getpid()}"),
            open_store(folder, SETTINGS, (0, 2)),
        ):
            pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match=r"must go to a folder that can be written, got .*file/study: Not a directory"),
        open_store(tmp_path / "file" / "study", SETTINGS),
    ):
        pass


def test_a_disk_too_full_for_a_lock_is_told(folder):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        message = f"^results must go to a folder that can be written, got {folder}: File too large$"
        with pytest.raises(OSError, match=message), open_store(folder, SETTINGS):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with open_store(folder, SETTINGS) as store:
        assert len(store.parts()) == 2


def test_tables_are_complete_when_all_are_there_and_unaltered(folder):
    with open_store(folder, SETTINGS) as store:
        assert not store.tables_are_complete()
        save_tables(store, {"runs": TABLE, "metrics": TABLE})
        assert store.tables_are_complete()
        (folder / "runs.parquet").write_bytes(b"altered")
        assert not store.tables_are_complete()
        save_tables(store, {"runs": TABLE, "metrics": TABLE})
        (folder / "metrics.parquet").unlink()
        assert not store.tables_are_complete()
        save_tables(store, {"runs": TABLE, "metrics": TABLE})
        store.discard_tables()
        assert not store.tables_are_complete()
        store.finish_tables()
        assert not store.tables_are_complete()  # there are none


def test_tables_are_complete_for_what_they_were_made_of(folder):
    with open_store(folder, SETTINGS) as store:
        save_tables(store, {"verdicts": TABLE}, "these claims")
        assert store.tables_are_complete() and store.tables_are_complete("these claims")
        assert not store.tables_are_complete("other claims")


def test_a_table_that_fails_halfway_is_not_there(folder):
    with open_store(folder, SETTINGS) as store:
        with pytest.raises(ValueError, match="schema"):
            write_two_row_groups(store, TABLE, TABLE.append_column("y", TABLE["x"]))
        assert {path.name for path in folder.iterdir()} == {".lock", "config.json", "parts"}


def test_a_part_takes_the_place_of_the_one_before(folder):
    with open_store(folder, SETTINGS) as store:
        store.parts()
        path = store.save_part(3, PART[1:])
        assert store.parts()[3] == path and len(parts_of(folder)) == 2


def test_a_kill_never_leaves_two_parts_of_a_task(folder, monkeypatch):
    def killed(source, target):
        assert [path.name[:6] for path in parts_of(folder) if path.suffix == ".arrow"] == ["000000"]
        raise KeyboardInterrupt

    with open_store(folder, SETTINGS) as store:
        store.parts()
        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            store.save_part(3, PART[1:])


def test_digest_covers_runs_and_metrics_alone(folder):
    with open_store(folder, SETTINGS) as store:
        save_tables(store, {"runs": TABLE, "metrics": TABLE, "timing": TABLE})
        first = digest(folder)
        save_tables(store, {"timing": TABLE.slice(1)})
        assert digest(folder) == first
        save_tables(store, {"metrics": TABLE.slice(1)})
        assert digest(folder) != first
