// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "../contracts/Attestors.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Registry} from "../contracts/Registry.sol";
import {Unlearning} from "../contracts/Unlearning.sol";
import {VM} from "./Cheats.sol";
import {RegistryFixture} from "./RegistryFixture.sol";
import {SettableRounds} from "./SettableRounds.sol";

/// @dev A task of four organizations, two of whose three attestors have to sign; organization 3 is
/// no attestor, and asks to forget. Hashes are computed from the EIP-712 type strings, without the
/// contract's help.
abstract contract UnlearningFixture is RegistryFixture {
    SettableRounds internal _rounds;
    Unlearning internal _unlearning;

    bytes32 internal constant _TASK = keccak256("task");
    bytes32 internal constant _SUBJECT = keccak256("salted subject");
    bytes32 internal constant _EVIDENCE = keccak256("evidence");
    bytes32 internal constant _ADAPTER = keccak256("adapter");
    uint64 internal constant _DUE = 5000;
    uint256 internal constant _ASKING = 3;
    uint16 internal constant _NEEDED = 2;
    uint256 internal constant _ORDER =
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function setUp() public virtual override {
        super.setUp();
        _executed(_about(Registry.Kind.AddAttestor, 2));
        _executed(_toThreshold(Registry.Kind.SetAttestorThreshold, _NEEDED));
        _rounds = new SettableRounds();
        _unlearning = new Unlearning(_registry, _rounds);
        _rounds.setCoordinator(_TASK, _COORDINATOR);
        _rounds.setRound(_TASK, 3, IRounds.Phase.Final, keccak256("record"));
        VM.roll(101);
    }

    /// @dev An organization's request, with the id that it must have.
    function _wanted(uint256 number) internal pure returns (Unlearning.Request memory wanted) {
        wanted.task = _TASK;
        wanted.organization = _org(number);
        wanted.subject = _SUBJECT;
        wanted.scope = Unlearning.Scope.Records;
        wanted.deadline = _DUE;
        wanted.id = _id(wanted);
    }

    function _id(Unlearning.Request memory wanted) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                wanted.task,
                wanted.organization,
                wanted.subject,
                uint8(wanted.scope),
                wanted.deadline
            )
        );
    }

    /// @dev Brings the request of organization 3; returns its id.
    function _requested() internal returns (bytes32) {
        return _requested(_wanted(_ASKING));
    }

    function _requested(Unlearning.Request memory wanted) internal returns (bytes32) {
        uint256 number = uint8(bytes1(wanted.organization)) - 0x61;
        _unlearning.request(wanted, _signed(_secret(number), _digest(wanted)));
        return wanted.id;
    }

    /// @dev Brings a request that must be refused in these words, signed by organization 3.
    function _refuse(bytes memory reason, Unlearning.Request memory wanted) internal {
        bytes memory signature = _signed(_secret(_ASKING), _digest(wanted));
        VM.expectRevert(reason);
        _unlearning.request(wanted, signature);
    }

    function _completion() internal pure returns (Unlearning.Completion memory) {
        return Unlearning.Completion(_EVIDENCE, _ADAPTER, 3, Unlearning.Guarantee.ExactReplay);
    }

    /// @dev Signatures of the first organizations over a completion.
    function _attested(bytes32 id, Unlearning.Completion memory completion, uint256 count)
        internal
        view
        returns (Attestors.Approval[] memory approvals)
    {
        approvals = new Attestors.Approval[](count);
        for (uint256 i = 0; i < count; ++i) {
            approvals[i] = Attestors.Approval(
                _org(i), _signed(_secret(i), _digest(id, _org(i), completion))
            );
        }
    }

    /// @dev Completes a request by the first two attestors.
    function _completed(bytes32 id) internal {
        _unlearning.complete(id, _completion(), _attested(id, _completion(), _NEEDED));
    }

    function _rejected(bytes32 id) internal {
        VM.prank(_COORDINATOR);
        _unlearning.reject(id, 1, 0);
    }

    function _cancelled(bytes32 id) internal {
        _unlearning.cancel(id, _signed(_secret(_ASKING), _cancelDigest(id)));
    }

    function _refuseCompletion(
        bytes memory reason,
        bytes32 id,
        Unlearning.Completion memory completion,
        Attestors.Approval[] memory approvals
    ) internal {
        VM.expectRevert(reason);
        _unlearning.complete(id, completion, approvals);
    }

    function _notOpen(bytes32 id, Unlearning.State state) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(Unlearning.UnlearningNotOpen.selector, id, state);
    }

    function _digest(Unlearning.Request memory wanted) internal view returns (bytes32) {
        return _typed(_hash(wanted));
    }

    function _hash(Unlearning.Request memory wanted) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "Request(bytes32 id,bytes32 task,bytes32 organization,bytes32 subject,"
                    "uint8 scope,uint64 deadline)"
                ),
                wanted.id,
                wanted.task,
                wanted.organization,
                wanted.subject,
                uint8(wanted.scope),
                wanted.deadline
            )
        );
    }

    function _digest(bytes32 id, bytes32 attestor, Unlearning.Completion memory completion)
        internal
        view
        returns (bytes32)
    {
        return _typed(_hash(id, attestor, completion));
    }

    function _hash(bytes32 id, bytes32 attestor, Unlearning.Completion memory completion)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256(
                    "Completion(bytes32 id,bytes32 organization,bytes32 evidenceRoot,"
                    "bytes32 adapter,uint64 firstAffectedRound,uint8 guarantee)"
                ),
                id,
                attestor,
                completion.evidenceRoot,
                completion.adapter,
                completion.firstAffectedRound,
                uint8(completion.guarantee)
            )
        );
    }

    function _cancelDigest(bytes32 id) internal view returns (bytes32) {
        return _typed(_cancelHash(id));
    }

    function _cancelHash(bytes32 id) internal pure returns (bytes32) {
        return keccak256(abi.encode(keccak256("Cancellation(bytes32 id)"), id));
    }

    function _typed(bytes32 structHash) internal view returns (bytes32) {
        return _typed(structHash, "Foedus Unlearning", "1", block.chainid, address(_unlearning));
    }

    function _typed(
        bytes32 structHash,
        string memory name,
        string memory version,
        uint256 chainId,
        address verifier
    ) internal pure returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,"
                    "address verifyingContract)"
                ),
                keccak256(bytes(name)),
                keccak256(bytes(version)),
                chainId,
                verifier
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    /// @dev The second form of a signature, which the curve takes as well.
    function _highS(bytes memory signature) internal pure returns (bytes memory) {
        bytes32 r;
        uint256 s;
        assembly ("memory-safe") {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
        }
        uint8 v = uint8(signature[64]);
        return abi.encodePacked(r, _ORDER - s, v == 27 ? uint8(28) : uint8(27));
    }
}
