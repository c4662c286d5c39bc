"""A grid that sends an order along with every message: by which settings it is to be answered."""

from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from strategies import protocol
from strategies.replay_order import ORDER, ReplayOrder


class OrderedGrid(Grid):
    """Another grid, whose messages carry an order.

    Parameters
    ----------
    grid : Grid
        Flower's.
    order : ReplayOrder
        What each message carries.
    """

    def __init__(self, grid: Grid, order: ReplayOrder) -> None:
        self._grid = grid
        self._order = order.to_bytes()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages with the order in their header, and return the replies."""
        ordered = list(messages)
        for message in ordered:
            message.content.config_records[protocol.HEADER][ORDER] = self._order
        return self._grid.send_and_receive(ordered, timeout=timeout)

    def get_node_ids(self) -> Iterable[int]:
        """As the grid's."""
        return self._grid.get_node_ids()

    def set_run(self, run: Any) -> None:
        """As the grid's."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        """As the grid's."""
        return self._grid.run

    def create_message(self, *arguments: Any, **more: Any) -> Message:
        """As the grid's."""
        return self._grid.create_message(*arguments, **more)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As the grid's; without the order, which only answered messages need."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As the grid's."""
        return self._grid.pull_messages(message_ids)
