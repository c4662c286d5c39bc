"""A folder in the cache that is either absent or whole: built aside, hashed, renamed into place.

Each folder carries a manifest with the size and SHA-256 of its files, written last. Every use
checks it, so that a truncated or altered file is found before anything is computed from it.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm.progress import Progress, silent

MANIFEST = "manifest.json"
#: A manifest of the few files kept here is a few hundred bytes; anything larger is not ours.
_MAX_MANIFEST_BYTES = 1 << 20


class CacheError(RuntimeError):
    """The cache cannot hold what is needed, or what was built is not what was pinned."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    files: dict[str, _File]


def cached_folder(
    folder: Path,
    build: Callable[[Path], None],
    *,
    pins: Mapping[str, str],
    needed_bytes: int,
    progress: Progress = silent,
) -> Path:
    """Return ``folder``, intact; build it first where it is absent or damaged.

    Two processes that ask at once build it once: the second waits. A build that fails leaves
    nothing behind.

    Parameters
    ----------
    folder : Path
        Where the folder belongs. Its parents are made.
    build : callable
        Fills the empty folder it is given. Runs at most once.
    pins : mapping of str to str
        SHA-256 (hexadecimal) that files of the folder must have, by file name.
    needed_bytes : int
        Free space the build needs, checked before it starts.
    progress : Progress, optional
        Told of waiting, of damage found and of the check.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    CacheError
        If the disk is too small, or a built file has not its pinned digest.
    """
    if damage(folder, pins) is None:
        return folder
    with _translated_disk_errors(folder), _locked(folder, progress):
        found = damage(folder, pins)  # another process may have built it while this one waited
        if found is None:
            return folder
        if folder.exists():
            progress(f"{folder.name}: {found}; building it again", 0, 0)
        _remove_leftovers(folder)
        _require_space(folder.parent, needed_bytes)
        aside = Path(tempfile.mkdtemp(prefix=_aside_prefix(folder), dir=folder.parent))
        try:
            build(aside)
            _write_manifest(aside)
            wrong = damage(aside, pins)
            if wrong is not None:
                raise CacheError(
                    f"{folder.name} was built, but {wrong}; nothing was kept. "
                    "Install the package versions of constraints.txt and run the command again"
                )
            _publish(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def damage(folder: Path, pins: Mapping[str, str]) -> str | None:
    """Say what is wrong with a cached folder; None where every byte is as recorded and pinned."""
    if not folder.exists():
        return "it does not exist"
    manifest = folder / MANIFEST
    try:
        if manifest.stat().st_size > _MAX_MANIFEST_BYTES:
            return "its manifest is too large to be one"
        files = _Manifest.model_validate_json(manifest.read_bytes()).files
    except FileNotFoundError:
        return "its manifest is missing"
    except ValidationError:
        return "its manifest cannot be read"
    return next(_differences(folder, files, pins), None)


def _differences(
    folder: Path, files: Mapping[str, _File], pins: Mapping[str, str]
) -> Iterator[str]:
    present = {entry.name for entry in folder.iterdir()} - {MANIFEST}
    yield from (f"{name} is missing" for name in sorted((files.keys() | pins.keys()) - present))
    yield from (f"{name} is not in its manifest" for name in sorted(present - files.keys()))
    for name, pinned in pins.items():
        if files[name].sha256 != pinned:
            yield f"{name} has SHA-256 {files[name].sha256}, expected {pinned}"
    for name, recorded in files.items():
        size = (folder / name).stat().st_size
        if size != recorded.size:
            yield f"{name} has {size:,} bytes, expected {recorded.size:,}"
        digest = sha256_of(folder / name)
        if digest != recorded.sha256:
            yield f"{name} has SHA-256 {digest}, expected {recorded.sha256}"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(folder: Path) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = _File(size=path.stat().st_size, sha256=sha256_of(path))
        _sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(_Manifest(files=files).model_dump_json(indent=2) + "\n", encoding="utf-8")
    _sync(manifest)
    _sync(folder)


def _publish(aside: Path, folder: Path) -> None:
    # Made private by mkdtemp and safetensors; a cache may be shared by several accounts.
    aside.chmod(0o755)
    for path in aside.iterdir():
        path.chmod(0o644)
    if folder.exists():
        # A folder cannot be renamed over one that holds files, so the damaged one steps aside.
        damaged = Path(tempfile.mkdtemp(prefix=_aside_prefix(folder), dir=folder.parent))
        folder.rename(damaged / "damaged")
        aside.rename(folder)
        shutil.rmtree(damaged)
    else:
        aside.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside_prefix(folder: Path) -> str:
    return f".{folder.name}.building-"


def _remove_leftovers(folder: Path) -> None:
    # The lock is held, so whatever lies there belongs to a process that was killed.
    for leftover in folder.parent.glob(f"{_aside_prefix(folder)}*"):
        shutil.rmtree(leftover)


def _require_space(parent: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        raise CacheError(
            f"not enough disk space in {parent}: {needed_bytes / 1e6:,.0f} MB are needed and "
            f"{free / 1e6:,.0f} MB are free; make room or choose another cache folder"
        )


@contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"{folder.name}: waiting for another process that prepares it", 0, 0)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _translated_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}:
            raise
        raise CacheError(
            f"cannot write {folder.name} to the cache {folder.parent}: {error.strerror}; "
            "nothing was kept. Make room or choose another cache folder"
        ) from error
