"""The coordinator's authority, and the certificate that its door shows."""

import re
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from client_app.deployment.certificates import (
    RENEWED_DAYS,
    check_authority,
    read_certificate,
)
from client_app.deployment.coordinator import certificates
from client_app.deployment.node import node_path
from client_app.doctor.check import Finding, fails, holds, warns
from client_app.doctor.handshake import (
    EXPIRED,
    NOT_YET_VALID,
    OTHER_NAMES,
    HandshakeError,
    shown_certificate,
)
from client_app.doctor.machine import Machine

_ADDRESS: Final = re.compile(
    r"(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9][A-Za-z0-9.-]{0,252})):([0-9]{1,5})"
)
_RESTART: Final = "`foedus down` and `foedus up`"


def authority(machine: Machine) -> Finding:
    """Look at the kept certificate of the coordinator's authority."""
    if machine.organization is None:
        kept = check_authority(certificates(machine.home))
        anew = "make another: move the tls folder away, `foedus up`, and invite everybody again"
    else:
        kept = read_certificate(machine.authority)
        anew = "ask the coordinator for a new invitation, and `foedus join` it"
    if kept.not_valid_before_utc > (now := datetime.now(UTC)):
        return fails(
            f"it holds from {kept.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, and here it is "
            f"{now:%Y-%m-%d %H:%M}",
            "set this machine's clock (`timedatectl set-ntp true`)",
        )
    if kept.not_valid_after_utc < now:
        return fails(f"it has ended on {kept.not_valid_after_utc:%Y-%m-%d}", anew)
    return _until(kept, f"{machine.authority}, until", anew)


def door_certificate(machine: Machine) -> Finding:
    """Shake hands with the door, by every address that organizations reach it by."""
    place = _ADDRESS.fullmatch(machine.address)
    if place is None or not 0 < int(place[3]) < 65536:
        return fails(
            f"{machine.address!r:.80} is no address: expected host and port",
            f"write the coordinator's into {node_path(machine.home, machine.name)}",
        )
    host, port = place[1] or place[2], int(place[3])
    names = [host] if machine.organization is not None else machine.coordinator.addresses
    for name in names:
        try:
            shown = shown_certificate(host, port, machine.authority, name)
        except HandshakeError as error:
            return _distrusted(machine, name, error)
    return _until(shown, f"for {', '.join(names)}, until", _renewal(machine))


def _until(certificate: x509.Certificate, found: str, remedy: str) -> Finding:
    ends = certificate.not_valid_after_utc
    left = (ends - datetime.now(UTC)).days
    found = f"{found} {ends:%Y-%m-%d} ({left} days)"
    return warns(found, remedy) if left < RENEWED_DAYS else holds(found)


def _renewal(machine: Machine) -> str:
    if machine.organization is None:
        return "`foedus up` renews it"
    return "the coordinator's `foedus up` renews it: tell it"


def _distrusted(machine: Machine, name: str, error: HandshakeError) -> Finding:
    ours = machine.organization is None
    if not error.code:
        return fails(
            f"no handshake with {machine.address}: {error.said}",
            f"`foedus up`, and see {machine.home}/coordinator/processes/door.log"
            if ours
            else "have the coordinator call `foedus doctor` on its machine; if all is well there, "
            "its port is not open to this one, or the address in node.toml is another's",
        )
    found = f"the certificate shown at {machine.address} for {name}: {error.said}"
    if error.code == EXPIRED:
        return fails(
            found, _renewal(machine) + "; if it has not ended, this machine's clock is off"
        )
    if error.code == NOT_YET_VALID:
        return fails(found, "set this machine's clock (`timedatectl set-ntp true`)")
    if error.code in OTHER_NAMES:
        return fails(
            found,
            f"`foedus up` issues one for the addresses of coordinator.toml; if it did, {_RESTART}"
            if ours
            else f"have the coordinator add {name} to addresses in coordinator.toml and call "
            "`foedus up`",
        )
    return fails(
        found,
        f"something else listens at that port, or the door shows an older one: {_RESTART}"
        if ours
        else "do not go on: somebody else answers there, or the coordinator has made another "
        "authority. Ask it by a way that you trust; then `foedus join` a new invitation",
    )
