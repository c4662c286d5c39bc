"""A run on disk: written whole or not at all, and any altered byte is seen."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blockchain.canonical import canonical_json, hash_arrays
from strategies import run_archive
from strategies.run_archive import ArchiveError, RunArchive, load_arrays, newest_run, read_json
from strategies.signed_update import Opening

OPENING = Opening(bytes(range(32)), bytes(range(32, 64)))

ON_DISK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
UPDATES = st.dictionaries(
    st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=12),
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)),
    min_size=1,
    max_size=4,
).filter(lambda arrays: "__metadata__" not in arrays)


def update(value=1.0):
    return {"a.lora_B.weight": np.full((3, 2), value, np.float32)}


def write_round(archive, number, *, save_adapter=None, state=2.0):
    def save(folder):
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")

    return archive.prepare_round(
        number,
        manifest=lambda files: {"round": number, "files": files},
        openings={"shop": OPENING},
        record={"seconds": 0.5},
        state={"b": np.full((2, 2), state)},
        save_adapter=save_adapter or save,
    )


def test_openings_are_read_back_and_a_malformed_one_is_refused(tmp_path):
    archive = RunArchive(tmp_path)
    write_round(archive, 1)
    assert archive.openings(1) == {"shop": OPENING}
    path = archive.round_folder(1) / "openings.json"
    for content in ('{"shop": {}}', '{"shop": {"update": "00", "salt": "00"}}', '{"shop": 1}'):
        path.write_text(content)
        with pytest.raises(ArchiveError, match=r"openings\.json was altered"):
            archive.openings(1)


def flipped(path, place, change):
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)


def canonical_or_none(content):
    """A JSON object's canonical form; None for anything else."""
    try:
        value = json.loads(content)
        return canonical_json(value) if isinstance(value, dict) else None
    except (ValueError, TypeError):
        return None


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_round_is_read_back_as_it_was_written(tmp_path):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    folder = write_round(archive, 1)
    assert folder == archive.round_folder(1)
    assert (archive.name, archive.home) == ("treaty", tmp_path)
    assert archive.state(1)["b"].tobytes() == np.full((2, 2), 2.0).tobytes()
    assert set(archive.manifest(1)["files"]) == {"adapter/adapter_config.json", "state.safetensors"}
    assert archive.manifest(1)["files"].items() <= run_archive.file_digests(folder).items()
    assert archive.record(1) == {"seconds": 0.5}
    assert archive.is_prepared(1)
    assert not archive.is_sealed(1)
    archive.write_seal(1, {"block": 7})
    assert archive.is_sealed(1)
    assert archive.seal(1) == {"block": 7}


@pytest.mark.parametrize("failing", ["state", "adapter", "manifest", "record", "rename"])
def test_a_round_interrupted_anywhere_is_not_there_and_its_leftovers_go(
    tmp_path, monkeypatch, failing
):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    write_round(archive, 0)
    steps = {"state": (run_archive, "write_durably"), "record": (run_archive, "write_json")}

    def half_an_adapter(folder):
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if failing in steps:
            patch.setattr(*steps[failing], die)
        elif failing == "manifest":
            patch.setattr(run_archive, "canonical_json", die)
        elif failing == "rename":
            patch.setattr(run_archive, "sync_folder", die)
        with pytest.raises(KeyboardInterrupt):
            write_round(archive, 1, save_adapter=half_an_adapter if failing == "adapter" else None)
    assert not archive.is_prepared(1)
    assert archive.last_prepared_round() == 0
    assert [f.name for f in archive.round_folder(1).parent.iterdir() if f.name != "0000"] == [
        "0001.partial"
    ]
    write_round(archive, 1)
    assert archive.last_prepared_round() == 1
    assert files_below(archive.round_folder(1)) == files_below(archive.round_folder(0))
    assert sorted(f.name for f in archive.round_folder(1).parent.iterdir()) == ["0000", "0001"]


def test_a_round_that_was_written_is_not_written_over(tmp_path):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    write_round(archive, 1)
    with pytest.raises(ArchiveError, match="0001 is there already"):
        write_round(archive, 1, state=3.0)
    assert archive.state(1)["b"][0, 0] == 2.0


@ON_DISK
@given(UPDATES)
def test_an_update_is_stored_under_its_hash_once_and_read_back_to_the_bit(tmp_path, arrays):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    digest = archive.store_update(arrays)
    assert digest == hash_arrays(arrays)
    path = archive.update_path(digest)
    before = path.stat()
    assert archive.store_update(dict(reversed(arrays.items()))) == digest
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    loaded = archive.load_update(digest)
    assert {n: a.tobytes() for n, a in loaded.items()} == {
        n: a.tobytes() for n, a in arrays.items()
    }


def test_a_transposed_update_is_stored_as_what_it_shows(tmp_path):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    view = np.arange(6, dtype=np.float32).reshape(2, 3).T
    digest = archive.store_update({"a": view})
    assert (archive.load_update(digest)["a"] == view).all()


def test_a_stored_update_that_was_damaged_is_written_anew(tmp_path):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    path = archive.update_path(archive.store_update(update()))
    path.write_bytes(path.read_bytes()[:-1])
    digest = archive.store_update(update())
    assert archive.load_update(digest)


@settings(ON_DISK, max_examples=300)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_any_altered_byte_of_an_update_is_seen_and_the_file_named(tmp_path, place, change):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    digest = archive.store_update({**update(), "a.lora_A.weight": np.ones((2, 3), np.float32)})
    path = archive.update_path(digest)
    flipped(path, place, change)
    with pytest.raises(ArchiveError, match=digest.hex()):
        archive.load_update(digest)


def test_every_byte_of_an_updates_file_counts(tmp_path):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    digest = archive.store_update(update())
    path = archive.update_path(digest)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ArchiveError, match=digest.hex()):
            archive.load_update(digest)
    for altered in (content[:-1], content + b"\0", b""):
        path.write_bytes(altered)
        with pytest.raises(ArchiveError, match=digest.hex()):
            archive.load_update(digest)


def test_even_a_byte_that_safetensors_does_not_read_counts(tmp_path):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    padded = 0
    for length in range(1, 9):
        digest = archive.store_update({"a" * length: np.ones((1, 2), np.float32)})
        path = archive.update_path(digest)
        content = path.read_bytes()
        if b"}} " not in content:
            continue
        padded += 1
        path.write_bytes(content.replace(b"}} ", b"}}\t"))
        with pytest.raises(ArchiveError, match=digest.hex()):
            archive.load_update(digest)
    assert padded


@ON_DISK
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_any_altered_byte_of_a_manifest_is_another_manifest_or_none(tmp_path, place, change):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    if not archive.is_prepared(1):
        write_round(archive, 1)
    path = archive.round_folder(1) / "manifest.json"
    original = path.read_bytes()
    try:
        flipped(path, place, change)
        if path.read_bytes() == canonical_or_none(path.read_bytes()):
            assert canonical_json(archive.manifest(1)) != original
        else:
            with pytest.raises(ArchiveError, match=str(path)):
                archive.manifest(1)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize(
    "text", [' {"a": 1}', '{"a":1 }', '{"a":1.0}', '{"a":1,"a":1}', '{"b":1,"a":1}', '{"a":1e2}']
)
def test_a_manifest_in_any_but_the_canonical_form_is_refused(tmp_path, text):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    write_round(archive, 1)
    (archive.round_folder(1) / "manifest.json").write_text(text)
    with pytest.raises(ArchiveError, match=r"manifest\.json was altered"):
        archive.manifest(1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"1", b'"text"'])
def test_a_file_that_is_no_json_object_is_named(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=str(path)):
        read_json(path)


@given(st.binary(max_size=200))
@ON_DISK
def test_bytes_that_are_no_safetensors_file_are_refused_by_path(tmp_path, content):
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=str(path)):
        load_arrays(path)


def test_missing_files_are_named(tmp_path):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    readers = {
        "run.json": archive.read_run,
        "rounds/0001/manifest.json": lambda: archive.manifest(1),
        "rounds/0001/record.json": lambda: archive.record(1),
        "rounds/0001/openings.json": lambda: archive.openings(1),
        "rounds/0001/seal.json": lambda: archive.seal(1),
        "rounds/0001/state.safetensors": lambda: archive.state(1),
        "rounds/0001/adapter/adapter_model.safetensors": lambda: archive.adapter_arrays(1),
        f"updates/{'00' * 32}.safetensors": lambda: archive.load_update(bytes(32)),
    }
    for name, read in readers.items():
        with pytest.raises(ArchiveError, match=f"{archive.folder / name} is missing"):
            read()


def test_a_run_that_failed_before_it_began_says_so_when_asked_for_its_settings(tmp_path):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    archive.write_run({"status": "failed", "error": "no such model"})
    with pytest.raises(ArchiveError, match="no such model"):
        archive.read_settings()


def test_the_last_round_is_the_highest_that_is_whole(tmp_path):
    archive = RunArchive(tmp_path / "runs" / "treaty")
    assert archive.last_prepared_round() is None
    for number in (0, 1, 2):
        write_round(archive, number)
    (archive.folder / "rounds" / "0003.partial").mkdir()
    (archive.folder / "rounds" / "notes.txt").write_text("0004")
    assert archive.last_prepared_round() == 2


def test_the_newest_run_is_the_one_started_last_and_an_unfinished_one_can_be_asked_for(tmp_path):
    assert newest_run(tmp_path) is None
    for name, started, status in (
        ("b", "2026-01-01T00:00:00", "failed"),
        ("a", "2026-01-02T00:00:00", "running"),
        ("c", "2026-01-03T00:00:00", "finished"),
    ):
        RunArchive(tmp_path / "runs" / name).write_run({"started": started, "status": status})
    RunArchive(tmp_path / "runs" / "empty")
    assert newest_run(tmp_path).name == "c"
    assert newest_run(tmp_path, unfinished=True).name == "a"
    shutil.rmtree(tmp_path / "runs" / "a")
    assert newest_run(tmp_path, unfinished=True).name == "b"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_aside(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    run_archive.write_json(path, {"status": "running"})

    def no_space(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            run_archive.write_json(path, {"status": "finished"})
    assert json.loads(path.read_text()) == {"status": "running"}
    assert [f.name for f in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_json_is_written_that_others_cannot_read(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run_archive.write_json(tmp_path / "record.json", {"loss": value})
    assert list(tmp_path.iterdir()) == []
