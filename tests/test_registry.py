"""One pinned file through the real pip: the right bytes, or one clear line and nothing kept."""

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from llm.registry import PackageFile, RegistryError, download, extract_member

FILENAME = "foedus_probe-1.0-py3-none-any.whl"
INFO = "foedus_probe-1.0.dist-info"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A wheel in a folder that pip is told to take for the registry, and no other source."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with zipfile.ZipFile(shelf / FILENAME, "w") as wheel:
        wheel.writestr("foedus_probe/data.txt", "the data")
        wheel.writestr(
            f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: foedus-probe\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{INFO}/RECORD", "")
    data = (shelf / FILENAME).read_bytes()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    digest = hashlib.sha256(data).hexdigest()
    return PackageFile("foedus-probe", "1.0", FILENAME, digest, len(data))


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def refusal(package, folder):
    with pytest.raises(RegistryError) as refused:
        download(package, folder)
    assert list(folder.iterdir()) == []
    return str(refused.value)


def test_the_pinned_file_arrives_and_nothing_beside_it(package, here):
    steps = []
    path = download(package, here, lambda *step: steps.append(step))
    assert path == here / FILENAME
    assert hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256
    assert list(here.iterdir()) == [path]
    assert steps[-1] == ("downloading foedus-probe 1.0 (0 MB)", package.size, package.size)
    assert all(0 <= done <= total for _, done, total in steps)


def test_odd_settings_of_pip_do_not_change_what_is_downloaded(package, here, monkeypatch):
    for name, value in {
        "PIP_CONSTRAINT": "/nonexistent",
        "PIP_DEST": "/nonexistent",
        "PIP_NO_BINARY": ":all:",
        "PIP_PLATFORM": "win_amd64",
        "PIP_PYTHON_VERSION": "2.7",
        "PIP_QUIET": "3",
        "PIP_REQUIREMENT": "/nonexistent",
        "PIP_LOG": "/nonexistent/log",
    }.items():
        monkeypatch.setenv(name, value)
    assert download(package, here).is_file()


def test_a_file_with_another_digest_is_refused_by_both_digests(package, here):
    wrong = replace(package, sha256="0" * 64)
    said = refusal(wrong, here)
    assert "checksum mismatch" in said
    assert package.sha256 in said
    assert wrong.sha256 in said


def test_a_damaged_file_is_refused(package, here, tmp_path):
    shelved = tmp_path / "shelf" / FILENAME
    data = bytearray(shelved.read_bytes())
    data[60] ^= 1
    shelved.write_bytes(bytes(data))
    assert "checksum mismatch" in refusal(package, here)


def test_a_release_that_the_registry_lacks_is_one_clear_line(package, here):
    said = refusal(replace(package, version="2.0"), here)
    assert "foedus-probe 2.0 could not be downloaded" in said
    assert "No matching distribution" in said
    assert "\n" not in said


def test_a_registry_out_of_reach_is_said_with_what_to_do(package, here, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    # Port 9 of this machine: refused at once.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    said = refusal(package, here)
    assert "Check the network" in said
    assert "pip config set global.index-url" in said


def test_a_python_without_pip_is_said_with_what_to_do(package, here, monkeypatch, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    assert "-m ensurepip" in refusal(package, here)


def test_a_member_is_copied_from_a_wheel_and_from_a_tarball(package, here, tmp_path):
    wheel = tmp_path / "shelf" / FILENAME
    extract_member(wheel, "foedus_probe/data.txt", here / "one")
    assert (here / "one").read_text() == "the data"
    tarball = tmp_path / "probe.tar.gz"
    with tarfile.open(tarball, "w:gz") as archive:
        entry = tarfile.TarInfo("top/data.txt")
        entry.size = 8
        archive.addfile(entry, io.BytesIO(b"the data"))
        link = tarfile.TarInfo("top/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("top"))
    extract_member(tarball, "top/data.txt", here / "two")
    assert (here / "two").read_text() == "the data"
    for archive_path, member in [
        (wheel, "absent"),
        (tarball, "absent"),
        (tarball, "top/link"),
    ]:
        with pytest.raises(RegistryError, match=f"holds no {member}"):
            extract_member(archive_path, member, here / "three")
    assert not Path(here / "three").exists()
