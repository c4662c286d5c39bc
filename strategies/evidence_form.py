"""The forms that evidence takes in an attestor's message: files, documents, lists."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from flwr.app import ConfigRecord
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from blockchain.canonical import canonical_json
from blockchain.merkle import check_hash
from llm.json_nesting import check_nesting
from strategies.protocol import ProtocolError
from strategies.run_archive import AnyArrays

T = TypeVar("T")


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as a safetensors file."""
    # safetensors writes an array's buffer as it lies: a transposed view would be stored wrong.
    return save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})


def unpacked(content: bytes) -> AnyArrays:
    """Read them back; `ValueError` if it is no such file."""
    try:
        return dict(load(content))
    except SafetensorError as error:
        raise ValueError(f"not a readable safetensors file: {error}") from error


def document(content: bytes, name: str) -> Any:
    """Read a JSON object in canonical form; `ValueError` if it is none."""
    text = content.decode("utf-8")
    check_nesting(text)
    found = json.loads(text)
    # The hash is of the canonical form; another form of the same would not have it.
    if not isinstance(found, dict) or canonical_json(found) != content:
        raise ValueError(f"{name} is not a JSON object in canonical form")
    return found


def task_of(manifest: Mapping[str, Any]) -> bytes:
    """Return the task that a manifest is of, 32 bytes; `ValueError` if it says none."""
    task = manifest.get("task")
    if not isinstance(task, str):
        raise ProtocolError("a manifest without its task")
    return check_hash(bytes.fromhex(task), "task")


def list_of(header: ConfigRecord, key: str, kind: type[T]) -> list[T]:
    """Return a list of one type; `ProtocolError` if it is none."""
    value: Any = header.get(key)
    if not isinstance(value, list) or not all(type(entry) is kind for entry in value):
        raise ProtocolError(f"evidence: {key}: expected a list of {kind.__name__}")
    return value
