"""One SQLite file: opened so that what is committed lasts, what is deleted is gone.

Write-ahead log, ``synchronous=FULL`` (a commit survives a power loss), foreign keys, deleted
content overwritten (``secure_delete``). Who writes takes the lock before reading what it builds on
(``BEGIN IMMEDIATE``). Every error of SQLite's becomes one line that says what to do.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from blockchain.durable_file import sync_folder
from blockchain.private.errors import LedgerFileError

#: In a file's header, that it is ours: "FoeL" and "FoeS".
APPLICATION_IDS: Final = {"ledger": 0x466F654C, "secrets": 0x466F6553}

#: Newest migration of each kind of file.
NEWEST: Final = {"ledger": "ledger_0002", "secrets": "secrets_0002"}

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.002
_PRIVATE: Final = 0o600

#: What each of SQLite's primary error codes means for whoever runs this.
_MEANINGS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: nothing was written; make room and try again",
    sqlite3.SQLITE_READONLY: "it cannot be written: make file and folder writable",
    sqlite3.SQLITE_PERM: "it cannot be written: make file and folder writable",
    sqlite3.SQLITE_BUSY: "another process holds it locked: try again when that is done",
    sqlite3.SQLITE_LOCKED: "another process holds it locked: try again when that is done",
    sqlite3.SQLITE_NOTADB: "it is no SQLite file: restore it from a backup",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: see that the folder is there and accessible",
    sqlite3.SQLITE_IOERR: "the disk failed, or is full: nothing was written; see to it, try again",
}


class Database:
    """One file, by one connection.

    Parameters
    ----------
    path : Path
        The file.
    kind : {"ledger", "secrets"}
        What it holds.
    read_only : bool
        Nothing is written, nor migrated.

    Raises
    ------
    LedgerFileError
        It is missing, foreign, of a newer version, or cannot be opened.
    """

    def __init__(self, path: Path, kind: str, *, read_only: bool = False) -> None:
        self.path = path
        self._kind = kind
        with accessible(path):
            if not path.is_file():
                raise LedgerFileError(f"{path} is missing: restore it from a backup")
        self._engine = _engine(path, "ro" if read_only else "rw")
        with self.explained():
            self.connection: Connection = self._engine.connect()
        try:
            self._check(read_only=read_only)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Hold the write lock; committed, and on the disk, once the block was left in order."""
        with self.explained():
            self._lock()
            try:
                yield self.connection
                self.connection.exec_driver_sql("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See the file as it is now, whatever others write meanwhile; within another, as there."""
        if self._raw.in_transaction:
            with self.explained():
                yield self.connection
            return
        with self.explained():
            self.connection.exec_driver_sql("BEGIN")
            try:
                yield self.connection
            finally:
                self._roll_back()

    def checkpoint(self, wait_seconds: float = 10.0) -> None:
        """Move the write-ahead log into the file and leave none of it behind.

        Raises
        ------
        LedgerFileError
            Somebody reads an older state, and did until the end.
        """
        end = time.monotonic() + wait_seconds
        while True:
            with self.explained():
                busy = self.connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
            if not busy:
                return
            if time.monotonic() > end:
                raise LedgerFileError(
                    f"{self.path}: another process reads it, so that its log cannot be emptied: "
                    "what is to be erased is erased at the next opening"
                )
            time.sleep(0.05)

    def rewrite(self) -> None:
        """Write the file anew without what was deleted, and leave nothing in its log.

        Raises
        ------
        LedgerFileError
            Another process uses it, and did until the end.
        """
        with self.explained():
            self.connection.exec_driver_sql("VACUUM")
        self.checkpoint()

    def copy_to(self, path: Path) -> None:
        """Copy the file as it is now to a path where there is none."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE))
        # By a reader of its own: this connection may hold the write lock, which a copy waits for.
        with (
            self.explained(),
            closing(sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(path)) as target,
        ):
            source.backup(target)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn SQLite's errors into one line each."""
        with _explained(self.path):
            yield

    def _lock(self) -> None:
        if self._kind != "ledger":
            # Secrets are written by who has the ledger's lock.
            self.connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        # SQLite gives the lock to whoever asks first once it is free: most often the process that
        # let it go, and that writes on. Here the one that waits is next.
        with _turn(self.path.parent):
            self._raw.execute("PRAGMA busy_timeout = 0")
            try:
                _wait_for(self._locked, self.path)
            finally:
                self._raw.execute(f"PRAGMA busy_timeout = {int(_LOCK_SECONDS * 1000)}")

    def _locked(self) -> bool:
        try:
            self._raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise
        return True

    def _roll_back(self) -> None:
        # A failed COMMIT may have ended the transaction already, or not.
        if self._raw.in_transaction:
            self.connection.exec_driver_sql("ROLLBACK")

    @property
    def _raw(self) -> sqlite3.Connection:
        return cast(sqlite3.Connection, self.connection.connection.dbapi_connection)

    def _pragma(self, name: str) -> Any:
        return self.connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    def _check(self, *, read_only: bool) -> None:
        with self.explained():
            found = int(self._pragma("application_id"))
            if found != APPLICATION_IDS[self._kind]:
                raise LedgerFileError(
                    f"{self.path} is no {self._kind} file: its application id is {found:#x}, "
                    f"expected {APPLICATION_IDS[self._kind]:#x}: restore it from a backup"
                )
            revision = self._revision()
        if revision == NEWEST[self._kind]:
            return
        if revision not in _known_revisions(self._kind):
            raise LedgerFileError(
                f"{self.path} has version {revision!r:.40}, this program knows up to "
                f"{NEWEST[self._kind]}: update the program"
            )
        if read_only:
            raise LedgerFileError(
                f"{self.path} has version {revision}, expected {NEWEST[self._kind]}: open it for "
                "writing once (`foedus ledger show`) to bring it up to date"
            )
        with self.writing() as connection:
            migrate(connection, self._kind)

    def _revision(self) -> str:
        query = "SELECT version_num FROM alembic_version"
        return str(self.connection.exec_driver_sql(query).scalar())


def create(
    path: Path,
    kind: str,
    revision: str = "head",
    fill: Callable[[Connection], object] = lambda _: None,
) -> None:
    """Make a file with its tables, readable by its owner alone; a whole one or none.

    Parameters
    ----------
    path : Path
        The file; its folder is there.
    kind : {"ledger", "secrets"}
        What it is to hold.
    revision : str
        The migration to make it by; the newest unless told otherwise.
    fill : callable
        Writes its first rows.

    Raises
    ------
    LedgerFileError
        It cannot be written; there is no file then.
    """
    aside = path.with_name(f".{path.name}.new")
    with accessible(path), _explained(path):
        for end in ("", "-wal", "-shm"):
            aside.with_name(f"{aside.name}{end}").unlink(missing_ok=True)
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE))
        with _engine(aside, "rw").connect() as connection:
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_IDS[kind]}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            migrate(connection, kind, revision)
            fill(connection)
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        # The log of a file that somebody removed would be taken for this one's.
        for end in ("-wal", "-shm"):
            path.with_name(f"{path.name}{end}").unlink(missing_ok=True)
        aside.replace(path)
        sync_folder(path.parent)


def migrate(connection: Connection, kind: str, revision: str = "head") -> None:
    """Bring a file's tables up to a revision, within the caller's transaction."""
    # Loads half a second's worth, which a file that is up to date does not need.
    from alembic import command  # noqa: PLC0415

    config = _alembic_config(kind)
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@contextmanager
def accessible(path: Path) -> Iterator[None]:
    """Turn the system's errors with a path into one `LedgerFileError` each."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise LedgerFileError(
            f"{path}: {error.strerror}: see that there is room, and that it can be read and written"
        ) from error


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from making or replacing the folder's files; `LedgerFileError`."""
    lock = FileLock(folder / "ledger.lock", timeout=_LOCK_SECONDS)
    try:
        with accessible(folder):
            lock.acquire()
    except Timeout as error:
        raise LedgerFileError(
            f"{folder}: another process is making or restoring it: try again when that is done"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Be the next to get the lock of a folder's files, until it was got."""
    with accessible(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def ours() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        _wait_for(ours, folder)
        yield
    finally:
        os.close(descriptor)


def _wait_for(attempt: Callable[[], bool], path: Path) -> None:
    end = time.monotonic() + _LOCK_SECONDS
    while not attempt():
        if time.monotonic() > end:
            raise LedgerFileError(f"{path}: {_MEANINGS[sqlite3.SQLITE_BUSY]}")
        time.sleep(_POLL_SECONDS)


def _alembic_config(kind: str) -> Any:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS / kind).replace("%", "%%"))
    return config


def _known_revisions(kind: str) -> set[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(_alembic_config(kind))
    return {script.revision for script in scripts.walk_revisions()}


def _engine(path: Path, mode: str) -> Engine:
    """Return what connects to a file as it is (``ro``) or to write it (``rw``)."""
    name = f"file:{quote(str(path))}"
    engine = create_engine(
        URL.create("sqlite", database=name, query={"mode": mode, "uri": "true"}),
        connect_args={"timeout": _LOCK_SECONDS},
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
    )
    event.listen(engine, "connect", _prepare if mode == "rw" else _prepare_read_only)
    return engine


def _prepare(raw: sqlite3.Connection, _: object) -> None:
    _prepare_read_only(raw, _)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("PRAGMA secure_delete = ON")


def _prepare_read_only(raw: sqlite3.Connection, _: object) -> None:
    raw.execute("PRAGMA foreign_keys = ON")
    # A hostile file's views and triggers run nothing; a damaged page is noticed.
    raw.execute("PRAGMA trusted_schema = OFF")
    raw.execute("PRAGMA cell_size_check = ON")
    raw.execute(f"PRAGMA busy_timeout = {int(_LOCK_SECONDS * 1000)}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise LedgerFileError(f"{path}: {_meaning(error.orig)}") from error
    except sqlite3.Error as error:
        raise LedgerFileError(f"{path}: {_meaning(error)}") from error
    except UnicodeDecodeError as error:
        # Of a message of SQLite's that quotes what it found.
        meaning = _MEANINGS[sqlite3.SQLITE_CORRUPT]
        raise LedgerFileError(f"{path}: {meaning}") from error


def _meaning(error: BaseException | None) -> str:
    if str(error).startswith(("no such table", "no such column")):
        return "its tables are not those of its version: restore it from a backup"
    code = getattr(error, "sqlite_errorcode", None)
    meaning = None if code is None else _MEANINGS.get(code & 0xFF)
    return meaning or f"{type(error).__name__}: {error}"
