"""Fixtures that more than one area uses, and the order of the tests."""

import pytest

from tests.flower_messages import flower_task

__all__ = ["flower_task"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Fast ones first: a mistake is told in seconds, not after the real model has been trained.
    items.sort(key=lambda item: item.get_closest_marker("real") is not None)
