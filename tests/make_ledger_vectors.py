"""The private ledger's bytes and hashes, pinned: whoever changes one makes old ledgers unreadable.

``python -m tests.make_ledger_vectors`` writes ``tests/vectors/ledger.json`` anew. Everything in it
follows from names (`tests.ledger_cases`); a difference needs another version of the encoding.
"""

import json
from pathlib import Path
from typing import Any, Final

from blockchain.growing_tree import GrowingTree
from blockchain.private import sealing
from blockchain.private.encoding import (
    TOMBSTONE_LEAF,
    VERSION,
    Block,
    Leaf,
    Sealed,
    ciphertext_hash,
    endorsement_digest,
    entry_commitment,
    ledger_domain,
    ledger_id,
    member_key_digest,
    member_of,
    payload_commitment,
)
from blockchain.private.policy import DEFAULT_RULES, EVERYBODY, Policy
from blockchain.private.record_fields import Part
from blockchain.private.record_types import (
    PAYLOADS,
    TYPES,
    Genesis,
    Role,
    RoleKey,
)
from blockchain.transparency_log import leaf_hash
from blockchain.typed_data import sign_digest
from tests.ledger_cases import AUDITOR, OFFICER, OPERATOR, digest
from tests.test_ledger_records import BODY_SAMPLES, PAYLOAD_SAMPLES

VECTORS: Final = Path(__file__).parent / "vectors/ledger.json"

_TIME: Final = 1_800_000_000
_MEMBERS: Final = (
    member_of(OPERATOR, Role.OPERATOR, Role.TRAINER),
    member_of(OFFICER, Role.OFFICER),
    member_of(AUDITOR, Role.AUDITOR),
)

GENESIS: Final = Genesis(
    organization=digest("organization"),
    address=OPERATOR.address,
    nonce=digest("nonce"),
    members=_MEMBERS,
    role_keys={
        name: RoleKey(generation=0, public=digest(f"public key of {name}"))
        for name in (*(role.value for role in sorted(Role)), EVERYBODY)
    },
    rules=DEFAULT_RULES,
)
DOMAIN: Final = ledger_domain(OPERATOR.address)
LEDGER: Final = ledger_id(GENESIS)


def leaves() -> list[Leaf]:
    """A leaf of every type, the genesis first; no ledger would take them in this order."""
    bodies = {sample.record_type: sample for sample in BODY_SAMPLES}
    payloads = {sample.record_type: sample for sample in PAYLOAD_SAMPLES}
    types = ["genesis", *(name for name in TYPES if name != "genesis")]
    return [
        Leaf(
            version=VERSION,
            ledger=LEDGER.hex(),
            record=number,
            type=name,
            time=_TIME + number,
            author=OPERATOR.address,
            role=Role.OPERATOR,
            body=_body(GENESIS if name == "genesis" else bodies.get(name)),
            sealed=_sealed(payloads[name]) if name in PAYLOADS else None,
        )
        for number, name in enumerate(types)
    ]


def block() -> Block:
    """The block that would hold them."""
    tree = GrowingTree(leaf_hash(leaf.encoded()) for leaf in leaves())
    return Block(
        version=VERSION,
        ledger=LEDGER,
        height=7,
        previous=_bytes("previous"),
        size=tree.size,
        root=tree.root(),
        policy=Policy.of(GENESIS).hash,
        time=_TIME,
        author=OPERATOR.address,
    )


def vectors() -> str:
    """The file's text."""
    role_private = _bytes("private key of member")
    endorsed = leaf_hash(leaves()[1].encoded())
    signed = block().digest(DOMAIN)
    values: dict[str, Any] = {
        "about": "The private ledger's encoding, by `python -m tests.make_ledger_vectors`",
        "ledgerId": LEDGER.hex(),
        "policyHash": Policy.of(GENESIS).hash.hex(),
        "domainSeparator": DOMAIN.separator().hex(),
        "leaves": [
            {"hash": leaf_hash(leaf.encoded()).hex(), "text": leaf.encoded().decode()}
            for leaf in leaves()
        ],
        "payloads": {sample.record_type: sample.canonical().decode() for sample in PAYLOAD_SAMPLES},
        "root": block().root.hex(),
        "blockDigest": signed.hex(),
        "blockSignature": sign_digest(signed, OPERATOR).hex(),
        "endorsementDigest": endorsement_digest(DOMAIN, LEDGER, 1, endorsed, Role.OFFICER).hex(),
        "memberKey": _MEMBERS[0].encryption,
        "memberKeyDigest": member_key_digest(
            OPERATOR.address, bytes.fromhex(_MEMBERS[0].encryption)
        ).hex(),
        "memberKeyProof": _MEMBERS[0].proof,
        "payloadCommitment": payload_commitment(_bytes("salt"), b"payload").hex(),
        "ciphertextHash": ciphertext_hash(bytes(12), b"ciphertext").hex(),
        "entryCommitment": entry_commitment(_bytes("salt"), "id 1", _bytes("content")).hex(),
        "tombstoneLeafHash": leaf_hash(TOMBSTONE_LEAF).hex(),
        "macKey": sealing.mac_key(role_private).hex(),
        "mac": sealing.mac(sealing.mac_key(role_private), "keys", {"record": 1}).hex(),
        "suppressionKey": sealing.suppression_key(role_private).hex(),
        "keyedId": sealing.keyed_id(sealing.suppression_key(role_private), "id 1").hex(),
        "place": sealing.place(LEDGER, "payload", record=1, type="receipt").decode(),
    }
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _body(part: Part | None) -> dict[str, Any] | None:
    return None if part is None else part.checked()


def _sealed(payload: Part) -> Sealed:
    name = payload.record_type
    return Sealed(
        commitment=payload_commitment(_bytes(f"salt of {name}"), payload.canonical()).hex(),
        ciphertext=digest(f"ciphertext of {name}"),
    )


def _bytes(name: str) -> bytes:
    return bytes.fromhex(digest(name))


if __name__ == "__main__":
    VECTORS.parent.mkdir(exist_ok=True)
    VECTORS.write_text(vectors())
