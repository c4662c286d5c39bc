"""Fixtures that more than one area uses."""

from tests.flower_messages import flower_task

__all__ = ["flower_task"]
