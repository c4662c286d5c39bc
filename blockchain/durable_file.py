"""Files that are there whole or not at all, whenever the machine stops."""

import os
import tempfile
from pathlib import Path


def write_durably(path: Path, content: str, mode: int = 0o644) -> None:
    """Write aside, flush to disk and rename over `path`; the file never has wider rights.

    Parameters
    ----------
    path : Path
        File to write; its folder is made where it is missing.
    content : str
        Text, written as UTF-8.
    mode : int
        Permissions of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
