"""What an organization that means harm runs in the place of Flower's ``flwr-clientapp``.

It has the agreed application, its own key and its own node: whatever such an organization can do.
``python -P hostile_clientapp.py GUARD ATTACKS --bundle ...``: ``ATTACKS`` is a JSON file that names
an attack for some rounds. Like the guard it imports nothing of Foedus before the bundle is there.
"""

import dataclasses
import json
import runpy
import sys
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.clientapp import ClientApp

GUARD, ATTACKS = Path(sys.argv[1]), Path(sys.argv[2])


def trained(change):
    """An attack that signs another update than the one that was trained."""

    def attack():
        from client_app import organization

        train_share = organization.train_share

        def changed(*arguments, **more):
            result = train_share(*arguments, **more)
            arrays = change({name: array.copy() for name, array in result.arrays.items()})
            return dataclasses.replace(result, arrays=arrays)

        organization.train_share = changed

    return attack


def not_finite(arrays):
    next(iter(arrays.values())).flat[3] = np.nan
    return arrays


def reshaped(arrays):
    name = next(iter(arrays))
    return {**arrays, name: arrays[name][:-1]}


def oversized(arrays):
    return {**arrays, "surplus": np.zeros((4096, 4096), np.float32)}


def forged():
    """Sign by a key that is not the organization's."""
    from eth_account import Account

    from client_app import organization

    sign_update = organization.sign_update
    organization.sign_update = lambda context, _, *arguments, **more: sign_update(
        context, Account.create(), *arguments, **more
    )


TRAINED = {
    "scaled": trained(lambda arrays: {name: 1000 * array for name, array in arrays.items()}),
    "not finite": trained(not_finite),
    "wrongly shaped": trained(reshaped),
    "oversized": trained(oversized),
    "forged": forged,
}


def in_anothers_name(reply, kept):
    reply.content["header"]["organization"] = "south"


def replayed(reply, kept):
    """Send the update of an earlier round again, signature and all."""
    with np.load(kept) as file:
        reply.content["update"] = ArrayRecord({n: Array(file[n]) for n in file.files})
    told = json.loads(kept.with_suffix(".json").read_text())
    for record, entries in told.items():
        for key, value in entries.items():
            reply.content[record][key] = bytes.fromhex(value[4:]) if _hex(value) else value


SENT = {"in another's name": in_anothers_name, "replayed": replayed}


def keep(reply, path):
    """Keep what was sent, to send it again."""
    arrays = {name: array.numpy() for name, array in reply.content["update"].items()}
    np.savez(path, **arrays)
    told = {
        record: {
            key: f"hex:{value.hex()}" if isinstance(value, bytes) else value
            for key, value in reply.content[record].items()
        }
        for record in ("header", "opening")
    }
    path.with_suffix(".json").write_text(json.dumps(told))


def _hex(value):
    return isinstance(value, str) and value.startswith("hex:")


called = ClientApp.__call__


def call(self, message, context):
    header = message.content.config_records.get("header") or {}
    attack, kept = None, ATTACKS.with_name("sent.npz")
    if message.metadata.message_type == "train":
        attack = json.loads(ATTACKS.read_text()).get(str(header.get("round")))
    TRAINED.get(attack, lambda: None)()
    reply = called(self, message, context)
    if message.metadata.message_type == "train":
        if attack in SENT:
            SENT[attack](reply, kept)
        elif attack is None:
            keep(reply, kept)
    return reply


ClientApp.__call__ = call
sys.argv = [str(GUARD), *sys.argv[3:]]
runpy.run_path(str(GUARD), run_name="__main__")
