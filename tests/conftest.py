"""Fixtures that more than one area uses, and the order of the tests."""

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before anything imports torch: threads of OpenMP wait for one another actively, and those of
    # several processes on two cores mostly for nothing.
    os.environ["OMP_NUM_THREADS"] = "1"

from tests.flower_messages import flower_task
from tests.one_thread import one_thread

__all__ = ["flower_task", "one_thread"]

#: Files in memory, and the room that the tests' own have to find there: 4 GiB. pytest makes a
#: folder of its own there, for nobody else to open.
_MEMORY = Path("/dev/shm")  # noqa: S108
_ROOM = 4 << 30

# What is written here is synced before anything goes on, which in memory is no wait. The calls are
# the same: tests kill processes, and none cuts the power.
if (
    "TMPDIR" not in os.environ
    and os.access(_MEMORY, os.W_OK)
    and shutil.disk_usage(_MEMORY).free >= _ROOM
):
    tempfile.tempdir = str(_MEMORY)

# An example's wall time says more of what else the machine does than of the code. The same code is
# tried on the same examples; `--hypothesis-profile=explore` looks for others.
hypothesis.settings.register_profile("foedus", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("foedus")

#: Files that take a minute and more, the longest first.
_LONG = (
    "test_simulation.py",
    "test_separate_machines.py",
    "test_exact_replay.py",
    "test_fast_unlearning.py",
    "test_adapters.py",
)
#: How many of them are begun at once where three processes share the work.
_BEGUN = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Fast ones first: a mistake is told in seconds, not after the real model has been trained.
    # Where processes share the work, one is left for the fast ones and the others begin with what
    # takes longest: last, it would be waited for with nothing else to do.
    begun = _LONG[:_BEGUN] if "PYTEST_XDIST_WORKER" in os.environ else ()
    place = {name: number for number, name in enumerate(_LONG)}

    def rank(item: pytest.Item) -> tuple[bool, bool, int]:
        name = item.path.name
        real = item.get_closest_marker("real") is not None
        return name not in begun, real, place.get(name, len(place))

    items.sort(key=rank)
