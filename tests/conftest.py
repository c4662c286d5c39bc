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

#: Takes minutes by itself.
_LONGEST = "test_simulation.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Fast ones first: a mistake is told in seconds, not after the real model has been trained.
    # Where processes share the work, one begins with the longest file: last, it would be
    # waited for with nothing else to do.
    def rank(item: pytest.Item) -> tuple[bool, bool]:
        longest = item.path.name == _LONGEST and "PYTEST_XDIST_WORKER" in os.environ
        return not longest, item.get_closest_marker("real") is not None

    items.sort(key=rank)
