"""bitsandbytes, loaded without what it prepares and warns of for uses that nothing here has."""

import logging
from types import ModuleType
from typing import Any, Final, NoReturn

import torch

# At every call it warns that int8 layers round their inputs; no such call is made here.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def _load() -> ModuleType:
    """Import it without a compiler, and it takes a function of its slowest backend as it stands.

    To have that one compiled, which computes the same as it is, torch would load all of its
    compiler: a fifth of the time in which a process that trains gets ready.
    """
    given: Any = torch.compile
    torch.compile = _no_compiler
    try:
        import bitsandbytes  # noqa: PLC0415 - only between these lines
    finally:
        torch.compile = given
    loaded: ModuleType = bitsandbytes
    return loaded


def _no_compiler(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("not compiled while bitsandbytes is imported")


bnb: Final[Any] = _load()
