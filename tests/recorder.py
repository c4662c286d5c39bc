"""Records what leaves a machine: the bytes inside its TLS connections, and where its packets go.

``python recorder.py connections ...`` is a proxy with the coordinator's own certificate, before its
door. ``python recorder.py packets ...`` listens at a port of the switch. Each runs until it is
ended.
"""

import argparse
import asyncio
import json
import signal
import socket
import ssl
import struct
from collections import Counter
from pathlib import Path

_ETHERNET, _ALL_PROTOCOLS, _OUTGOING = 14, 0x0003, 4
_ARP, _IPV4, _IPV6, _TCP = 0x0806, 0x0800, 0x86DD, 6


async def record_connections(options: argparse.Namespace) -> None:
    """Pass connections on, and keep what their clients send, decrypted."""
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(options.certificate, options.key)
    trusted = ssl.create_default_context(cafile=options.authority)
    with options.output.open("ab", buffering=0) as kept:

        async def pass_on(reader, writer, keep: bool) -> None:
            try:
                while data := await reader.read(65536):
                    if keep:
                        kept.write(data)
                    writer.write(data)
                    await writer.drain()
            except (OSError, ssl.SSLError):
                # Either end may break off; both are closed below.
                return
            finally:
                writer.close()

        async def connected(reader, writer) -> None:
            host, port = "127.0.0.1", options.to
            inner_reader, inner_writer = await asyncio.open_connection(host, port, ssl=trusted)
            await asyncio.gather(
                pass_on(reader, inner_writer, keep=True), pass_on(inner_reader, writer, keep=False)
            )

        server = await asyncio.start_server(connected, options.host, options.port, ssl=shown)
        async with server:
            await server.serve_forever()


def record_packets(options: argparse.Namespace) -> None:
    """Count the packets that come out of a machine, by where they go."""
    counted = Counter[str]()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as tap:
        tap.bind((options.port_name, 0))
        tap.settimeout(0.2)
        ending = []
        signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
        while not ending:
            try:
                frame, (_, _, kind, *_) = tap.recvfrom(65535)
            except TimeoutError:
                options.output.write_text(json.dumps(counted))
                continue
            if kind != _OUTGOING:
                counted[destination(frame)] += 1
    options.output.write_text(json.dumps(counted))


def destination(frame: bytes) -> str:
    """Say where a frame goes."""
    (protocol,) = struct.unpack("!H", frame[12:_ETHERNET])
    packet = frame[_ETHERNET:]
    if protocol == _ARP:
        return "arp"
    if protocol == _IPV6:
        return f"ipv6 {socket.inet_ntop(socket.AF_INET6, packet[24:40])}"
    if protocol != _IPV4:
        return f"ethertype {protocol:#06x}"
    address, length = socket.inet_ntoa(packet[16:20]), 4 * (packet[0] & 15)
    (port,) = struct.unpack("!H", packet[length + 2 : length + 4])
    return f"{'tcp' if packet[9] == _TCP else f'ip protocol {packet[9]}'} {address}:{port}"


def main() -> None:
    parser = argparse.ArgumentParser()
    kinds = parser.add_subparsers(dest="kind", required=True)
    connections = kinds.add_parser("connections")
    connections.add_argument("--host", required=True)
    connections.add_argument("--port", type=int, required=True)
    connections.add_argument("--to", type=int, required=True)
    for name in ("certificate", "key", "authority"):
        connections.add_argument(f"--{name}", required=True)
    packets = kinds.add_parser("packets")
    packets.add_argument("--port-name", required=True)
    for kind in (connections, packets):
        kind.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if options.kind == "packets":
        record_packets(options)
    else:
        asyncio.run(record_connections(options))


if __name__ == "__main__":
    main()
