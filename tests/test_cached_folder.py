"""A cached folder is absent or whole, whatever was done to it or to its builder."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm.cached_folder import MANIFEST, CacheError, cached_folder, sha256_of

FILES = {"weights.bin": b"\x00\x01" * 5000, "config.json": b"{}", "empty": b""}


def build(folder):
    for name, data in FILES.items():
        (folder / name).write_bytes(data)


def pins(tmp_path):
    (tmp_path / "probe").write_bytes(FILES["weights.bin"])
    return {"weights.bin": sha256_of(tmp_path / "probe")}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}


def never(folder):
    raise AssertionError(f"{folder} was built again")


def get(folder, builder, pinned=None, needed=0, progress=lambda *step: None):
    return cached_folder(folder, builder, pins=pinned or {}, needed_bytes=needed, progress=progress)


def test_a_folder_is_built_once_and_then_found(tmp_path):
    pinned = pins(tmp_path)
    folder = tmp_path / "deep" / "cache" / "model"
    assert get(folder, build, pinned) == folder
    assert contents(folder) == FILES
    get(folder, never, pinned)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGES = {
    "one bit": lambda folder: _flip(folder / "weights.bin"),
    "truncated": lambda folder: os.truncate(folder / "weights.bin", 9_999),
    "emptied": lambda folder: (folder / "config.json").write_bytes(b""),
    "longer": lambda folder: (folder / "empty").write_bytes(b"x"),
    "missing": lambda folder: (folder / "empty").unlink(),
    "one more": lambda folder: (folder / "more").touch(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "empty manifest": lambda folder: (folder / MANIFEST).write_bytes(b""),
    "odd manifest": lambda folder: (folder / MANIFEST).write_bytes(b'{"files": {"a": 1}}'),
    "huge manifest": lambda folder: (folder / MANIFEST).write_bytes(b" " * (1 << 21)),
    "file list of nothing": lambda folder: (folder / MANIFEST).write_bytes(b'{"files": {}}'),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_said_to_be_and_built_again(tmp_path, name):
    folder = get(tmp_path / "model", build)
    DAMAGES[name](folder)
    told = []
    get(folder, build, progress=lambda step, done, total: told.append(step))
    assert any("building it again" in step for step in told)
    assert contents(folder) == FILES
    get(folder, never)
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model.lock"}


def test_a_file_and_manifest_altered_together_are_found_by_the_pin(tmp_path):
    pinned = pins(tmp_path)
    folder = get(tmp_path / "model", build, pinned)
    _flip(folder / "weights.bin")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["weights.bin"]["sha256"] = sha256_of(folder / "weights.bin")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    get(folder, build, pinned)
    assert contents(folder) == FILES


def test_a_built_file_with_another_digest_is_refused_by_both_digests_and_not_kept(tmp_path):
    wrong = {"weights.bin": "0" * 64}
    with pytest.raises(CacheError) as refused:
        get(tmp_path / "model", build, wrong)
    assert "0" * 64 in str(refused.value)
    assert pins(tmp_path)["weights.bin"] in str(refused.value)
    assert not (tmp_path / "model").exists()
    with pytest.raises(CacheError, match=r"more\.bin is missing"):
        get(tmp_path / "model", build, {"more.bin": "0" * 64})


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def broken(folder):
        build(folder)
        raise RuntimeError("converter broke")

    with pytest.raises(RuntimeError, match="converter broke"):
        get(tmp_path / "model", broken)
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path):
    def onto_full_disk(folder):
        build(folder)
        with Path("/dev/full").open("wb") as full:
            full.write(b"x")

    with pytest.raises(CacheError, match=r"cannot write model to the cache .*No space left"):
        get(tmp_path / "model", onto_full_disk)
    with pytest.raises(CacheError, match=r"not enough disk space .* are needed"):
        get(tmp_path / "model", never, needed=1 << 60)
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def build_slowly(folder):
    with (folder.parent / "builds").open("a") as log:
        log.write("built\n")
    time.sleep(0.3)
    build(folder)


def test_two_processes_that_ask_at_once_build_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=get, args=(tmp_path / "model", build_slowly)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert (tmp_path / "builds").read_text() == "built\n"
    assert contents(tmp_path / "model") == FILES


KILLED_BUILDER = """
import sys, time
from pathlib import Path
from llm.cached_folder import cached_folder

def build(folder):
    (folder / "weights.bin").write_bytes(b"half")
    print("building", flush=True)
    time.sleep(60)

cached_folder(Path(sys.argv[1]), build, pins={}, needed_bytes=0)
"""


def test_what_a_killed_builder_left_is_removed_by_the_next(tmp_path):
    folder = tmp_path / "model"
    command = [sys.executable, "-c", KILLED_BUILDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == b"building\n"
        it.send_signal(signal.SIGKILL)
    assert not folder.exists()
    assert list(tmp_path.glob(".model.building-*"))
    get(folder, build)
    assert contents(folder) == FILES
    assert not list(tmp_path.glob(".model.building-*"))
