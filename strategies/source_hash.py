"""The hash of the program itself: what a receipt says was run."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("blockchain", "client_app", "llm", "server_app", "strategies", "unlearning")


@lru_cache(maxsize=1)
def source_hash() -> str:
    """Return SHA-256 over the names and contents of all Python sources, hexadecimal.

    As they lie beside this file: in a Flower run, the application that was handed over.
    """
    root, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()
