// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "../contracts/Attestors.sol";
import {COORDINATOR} from "../contracts/IRegistry.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Registry} from "../contracts/Registry.sol";
import {Rounds} from "../contracts/Rounds.sol";
import {RoundsState} from "../contracts/RoundsState.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {RegistryFixture} from "./RegistryFixture.sol";

/// @dev A task on a real registry, two of whose three attestors attest, and what it takes to act on
/// it. Hashes are computed from the EIP-712 type strings, without the contract's help.
abstract contract RoundsFixture is RegistryFixture {
    Rounds internal _rounds;
    bytes32 internal _task;
    address internal _lead;

    uint256 internal constant _LEAD_SECRET = 0xC00D;
    uint256 internal constant _LEAD_MONEY = 100 ether;
    address internal constant _STRANGER = address(0xBEEF);
    bytes32 internal constant _TERMS = keccak256("terms");
    bytes32 internal constant _GENESIS = keccak256("genesis");
    bytes32 internal constant _ROOT = keccak256("root");
    bytes32 internal constant _MANIFEST = keccak256("manifest");
    bytes32 internal constant _REWARDS = keccak256("rewards");
    bytes32 internal constant _SCORES = keccak256("scores");
    uint256 internal constant _TOTAL = 5 ether;
    uint32 internal constant _WINDOW = 100;
    uint32 internal constant _RESPONSE = 50;
    uint96 internal constant _BOND = 1 ether;

    function setUp() public virtual override {
        super.setUp();
        _lead = VM.addr(_LEAD_SECRET);
        _executed(_ofRole(Registry.Kind.GrantRole, COORDINATOR, _lead));
        _executed(_about(Registry.Kind.AddAttestor, 2));
        _executed(_toThreshold(Registry.Kind.SetAttestorThreshold, 2));
        _rounds = new Rounds(_registry);
        _task = _openedTask(_TERMS);
        VM.deal(_STRANGER, 100 ether);
        VM.deal(_lead, _LEAD_MONEY);
    }

    function _openedTask(bytes32 terms) internal returns (bytes32) {
        VM.prank(_lead);
        return _rounds.openTask(terms, _GENESIS, _WINDOW, _RESPONSE, _BOND);
    }

    /// @dev Opens a round on the head of the task.
    function _open(uint64 round) internal {
        bytes32 head = _rounds.getTask(_task).headAdapter;
        VM.prank(_lead);
        _rounds.openRound(_task, round, head);
    }

    function _void(uint64 round) internal {
        VM.prank(_lead);
        _rounds.voidRound(_task, round);
    }

    /// @dev A made-up result for an open round.
    function _seal(uint64 round) internal {
        _seal(round, _ROOT, 7);
    }

    function _seal(uint64 round, bytes32 root, uint32 leafCount) internal {
        VM.prank(_lead);
        _rounds.seal(
            _task, round, root, leafCount, _adapter(round), _MANIFEST, _REWARDS, _TOTAL
        );
    }

    /// @dev Opens a round and seals it without the update of organization 0.
    function _sealedWithout(uint64 round) internal returns (Submissions.ModelUpdate memory update) {
        _open(round);
        update = _update(0, round);
        _seal(round);
    }

    /// @dev Seals an open round with a single update, accepted.
    function _sealedWith(uint64 round, Submissions.ModelUpdate memory update) internal {
        _seal(round, _leaf(_digestOf(update), 0, 0), 1);
    }

    /// @dev Attests a sealed round by organizations 0 and 1.
    function _attest(uint64 round) internal {
        _rounds.attest(_task, round, _SCORES, _attestations(round, 2));
    }

    /// @dev Attests a sealed round, lets its time to be challenged pass and makes it final.
    function _finalize(uint64 round) internal {
        _attest(round);
        VM.warp(_rounds.getRound(_task, round).closedAt + _WINDOW + 1);
        _rounds.finalize(_task, round);
    }

    function _challenge(Submissions.ModelUpdate memory update) internal {
        _challenge(update, _receipt(update));
    }

    function _challenge(Submissions.ModelUpdate memory update, bytes memory receipt) internal {
        VM.prank(_STRANGER);
        _rounds.challengeOmission{value: _BOND}(update, receipt);
    }

    /// @dev Seals a round that leaves an update out and lets nobody answer for it.
    function _disputed(uint64 round) internal returns (Submissions.ModelUpdate memory update) {
        update = _sealedWithout(round);
        _challenge(update);
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, round);
    }

    /// @dev A call that must be refused in these words.
    function _refuses(address caller, bytes memory call, bytes memory reason) internal {
        _refuses(caller, 0, call, reason);
    }

    function _refuses(address caller, uint256 value, bytes memory call, bytes memory reason)
        internal
    {
        VM.expectRevert(reason);
        VM.prank(caller);
        (bool asExpected,) = address(_rounds).call{value: value}(call);
        assert(asExpected);
    }

    /// @dev A call that must be refused because of the phase that its round is in.
    function _refusesPhase(
        address caller,
        uint256 value,
        bytes memory call,
        uint64 round,
        IRounds.Phase expected
    ) internal {
        IRounds.Phase current = _rounds.phaseOf(_task, round);
        assert(current != expected);
        bytes4 selector = RoundsState.RoundsUnexpectedPhase.selector;
        _refuses(
            caller, value, call, abi.encodeWithSelector(selector, _task, round, current, expected)
        );
    }

    function _phase(uint64 round) internal view returns (IRounds.Phase) {
        return _rounds.phaseOf(_task, round);
    }

    /// @dev An update that an organization trained for a round, from the head of the task.
    function _update(uint256 number, uint64 round)
        internal
        view
        returns (Submissions.ModelUpdate memory)
    {
        bytes32 parent = _rounds.getRound(_task, round).parentAdapter;
        return Submissions.ModelUpdate({
            task: _task,
            round: round,
            organization: _org(number),
            parentAdapter: parent == 0 ? _rounds.getTask(_task).headAdapter : parent,
            terms: _TERMS,
            commitment: keccak256(abi.encode("commitment", number, round)),
            numExamples: 12,
            deadline: 1_000_000
        });
    }

    function _receipt(Submissions.ModelUpdate memory update) internal view returns (bytes memory) {
        return _signed(_LEAD_SECRET, _receiptDigest(_digestOf(update)));
    }

    /// @dev Attestations of a sealed round by the first `count` organizations.
    function _attestations(uint64 round, uint256 count)
        internal
        view
        returns (Attestors.Approval[] memory approvals)
    {
        approvals = new Attestors.Approval[](count);
        for (uint256 i = 0; i < count; ++i) {
            approvals[i].organization = _org(i);
            approvals[i].signature =
                _signed(_secret(i), _attestationDigest(round, _org(i), _SCORES));
        }
    }

    function _adapter(uint64 round) internal pure returns (bytes32) {
        return keccak256(abi.encode("adapter", round));
    }

    function _leaf(bytes32 digest, uint32 index, uint16 verdict) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(digest, index, verdict))));
    }

    function _record() internal pure returns (bytes32) {
        return keccak256(abi.encode(_MANIFEST, _REWARDS, _TOTAL));
    }

    function _digestOf(Submissions.ModelUpdate memory update) internal view returns (bytes32) {
        return _typed(_structHash(update), block.chainid, address(_rounds));
    }

    function _structHash(Submissions.ModelUpdate memory update) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "ModelUpdate(bytes32 task,uint64 round,bytes32 organization,"
                    "bytes32 parentAdapter,bytes32 terms,bytes32 commitment,"
                    "uint32 numExamples,uint64 deadline)"
                ),
                update.task,
                update.round,
                update.organization,
                update.parentAdapter,
                update.terms,
                update.commitment,
                update.numExamples,
                update.deadline
            )
        );
    }

    function _receiptDigest(bytes32 digest) internal view returns (bytes32) {
        return _typed(_receiptHash(digest), block.chainid, address(_rounds));
    }

    function _receiptHash(bytes32 digest) internal pure returns (bytes32) {
        return keccak256(abi.encode(keccak256("Receipt(bytes32 update)"), digest));
    }

    function _attestationDigest(uint64 round, bytes32 organization, bytes32 scores)
        internal
        view
        returns (bytes32)
    {
        bytes32 structHash = _attestationHash(_task, round, organization, scores);
        return _typed(structHash, block.chainid, address(_rounds));
    }

    function _attestationHash(bytes32 task, uint64 round, bytes32 organization, bytes32 scores)
        internal
        view
        returns (bytes32)
    {
        RoundsState.Round memory stored = _rounds.getRound(task, round);
        return keccak256(
            abi.encode(
                keccak256(
                    "Attestation(bytes32 task,uint64 round,bytes32 organization,"
                    "bytes32 updatesRoot,bytes32 adapter,bytes32 record,bytes32 scores)"
                ),
                task,
                round,
                organization,
                stored.updatesRoot,
                stored.adapterHash,
                stored.record,
                scores
            )
        );
    }

    /// @dev Digest in the rounds' own domain, on any chain and for any contract.
    function _typed(bytes32 structHash, uint256 chainId, address verifier)
        internal
        pure
        returns (bytes32)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,"
                    "address verifyingContract)"
                ),
                keccak256("Foedus Rounds"),
                keccak256("1"),
                chainId,
                verifier
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    /// @dev The second form of a signature, which is as valid by the curve but not accepted.
    function _highS(bytes memory signature) internal pure returns (bytes memory) {
        (bytes32 r, bytes32 s, uint8 v) = (0, 0, 0);
        assembly ("memory-safe") {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
            v := byte(0, mload(add(signature, 96)))
        }
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        return abi.encodePacked(r, order - uint256(s), v == 27 ? uint8(28) : uint8(27));
    }
}
