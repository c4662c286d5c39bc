"""What a coordinator that unlearns sends with each message: by which settings, in whose place.

The Flower run was submitted before anybody knew what it would make again: its configuration does
not say. An organization believes nothing of an order that the public chain does not bear out
(:func:`client_app.replay_order.check_order`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llm.json_nesting import check_nesting
from strategies import protocol
from strategies.protocol import ProtocolError
from strategies.settings import RunSettings
from strategies.terms import agreed_config, with_agreed

#: Entry of a message's header.
ORDER: Final = "order"

#: An order is two lists of a hundred settings.
_MAX_BYTES: Final = 1 << 18


@dataclass(frozen=True)
class ReplayOrder:
    """The settings of a run that goes on from another one, and that one's.

    Parameters
    ----------
    settings : mapping
        The run's agreed settings (`strategies.terms.agreed_config`).
    origin : mapping
        Those of the run whose rounds it replaces; the same ones while nothing is made again yet.
    origin_run : str
        That run's name.
    """

    settings: Mapping[str, Any]
    origin: Mapping[str, Any]
    origin_run: str

    @classmethod
    def of(cls, settings: RunSettings, origin: RunSettings, origin_run: str) -> "ReplayOrder":
        """Put an order together."""
        return cls(agreed_config(settings), agreed_config(origin), origin_run)

    def to_bytes(self) -> bytes:
        """Write the order; a float's shortest form reads back to the same bits."""
        document = {"settings": self.settings, "origin": self.origin, "run": self.origin_run}
        return json.dumps(document, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "ReplayOrder | None":
        """Read the order that a message carries; ``None`` where it carries none.

        Raises
        ------
        ProtocolError
            If it is malformed.
        """
        if ORDER not in header:
            return None
        content = protocol.data(header, ORDER)
        if len(content) > _MAX_BYTES:
            raise ProtocolError(f"{ORDER}: {len(content):,} bytes, at most {_MAX_BYTES:,} expected")
        try:
            text = content.decode("utf-8")
            check_nesting(text)
            document = json.loads(text)
        except ValueError as error:
            raise ProtocolError(f"{ORDER}: not readable JSON: {error}") from error
        if not isinstance(document, dict) or document.keys() != {"settings", "origin", "run"}:
            raise ProtocolError(f"{ORDER}: expected settings, origin and run")
        settings, origin, run = document["settings"], document["origin"], document["run"]
        if not (isinstance(settings, dict) and isinstance(origin, dict) and isinstance(run, str)):
            raise ProtocolError(f"{ORDER}: expected two objects and a name")
        return cls(settings, origin, run)

    def settings_at(self, own: RunSettings) -> RunSettings:
        """Return the run's settings, where and how one's own say; `SettingsError` if none."""
        return with_agreed(own, self.settings)

    def origin_at(self, own: RunSettings) -> RunSettings:
        """Return the replaced run's settings likewise."""
        return with_agreed(own, self.origin)
