// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Registry} from "../contracts/Registry.sol";
import {VM} from "./Cheats.sol";

/// @dev A registry of four members, three of which make a change, and what it takes to sign for
/// them. Hashes are computed from the EIP-712 type strings, without the contract's help.
abstract contract RegistryFixture {
    Registry internal _registry;

    uint16 internal constant _COUNT = 4;
    uint16 internal constant _K = 3;
    uint32 internal constant _DELAY = 3 days;
    uint256 internal constant _DEADLINE = 10_000;
    bytes32 internal constant _NODE_KEY = keccak256("node key");
    bytes32 internal constant _METADATA = keccak256("metadata");
    address internal constant _COORDINATOR = address(0xC0);
    address internal constant _PAUSER = address(0xBA);

    function setUp() public virtual {
        VM.warp(1000);
        VM.roll(100);
        _registry = new Registry(_founding());
    }

    /// @dev Ids ascend with their number.
    function _org(uint256 number) internal pure returns (bytes32) {
        return bytes32(bytes1(uint8(0x61 + number)));
    }

    /// @dev Private key of an organization, and its successors in later generations.
    function _secret(uint256 number, uint256 generation) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("secret", number, generation))) >> 8;
    }

    function _secret(uint256 number) internal pure returns (uint256) {
        return _secret(number, 0);
    }

    function _key(uint256 number, uint256 generation) internal pure returns (address) {
        return VM.addr(_secret(number, generation));
    }

    function _key(uint256 number) internal pure returns (address) {
        return _key(number, 0);
    }

    function _founding() internal pure returns (Registry.Founding memory founding) {
        return _founding(_COUNT, _K);
    }

    function _founding(uint16 count, uint16 threshold)
        internal
        pure
        returns (Registry.Founding memory founding)
    {
        founding.founders = new Registry.Founder[](count);
        for (uint256 i = 0; i < count; ++i) {
            founding.founders[i] = Registry.Founder(_org(i), _key(i), _NODE_KEY, _METADATA);
        }
        founding.threshold = threshold;
        founding.attestors = new bytes32[](count < 2 ? count : 2);
        for (uint256 i = 0; i < founding.attestors.length; ++i) founding.attestors[i] = _org(i);
        founding.attestorThreshold = 1;
        founding.coordinators = new address[](1);
        founding.coordinators[0] = _COORDINATOR;
        founding.pauser = _PAUSER;
        founding.recoveryDelay = _DELAY;
    }

    function _blank(Registry.Kind kind) internal view returns (Registry.Change memory change) {
        change.kind = kind;
        change.nonce = _registry.changeNonce();
        change.deadline = _DEADLINE;
    }

    function _admission(uint256 number, uint256 generation, uint16 threshold)
        internal
        view
        returns (Registry.Change memory change)
    {
        change = _blank(Registry.Kind.AdmitMember);
        change.organization = _org(number);
        change.account = _key(number, generation);
        change.nodeKey = _NODE_KEY;
        change.metadata = _METADATA;
        change.threshold = threshold;
    }

    function _removal(uint256 number, uint16 threshold)
        internal
        view
        returns (Registry.Change memory change)
    {
        change = _about(Registry.Kind.RemoveMember, number);
        change.threshold = threshold;
    }

    function _about(Registry.Kind kind, uint256 number)
        internal
        view
        returns (Registry.Change memory change)
    {
        change = _blank(kind);
        change.organization = _org(number);
    }

    function _toThreshold(Registry.Kind kind, uint16 threshold)
        internal
        view
        returns (Registry.Change memory change)
    {
        change = _blank(kind);
        change.threshold = threshold;
    }

    function _ofRole(Registry.Kind kind, bytes32 role, address account)
        internal
        view
        returns (Registry.Change memory change)
    {
        change = _blank(kind);
        change.role = role;
        change.account = account;
    }

    function _recovery(uint256 number, uint256 generation)
        internal
        view
        returns (Registry.Change memory change)
    {
        change = _about(Registry.Kind.ProposeRecovery, number);
        change.account = _key(number, generation);
    }

    /// @dev Makes a change with the signatures of the first `_K` members.
    function _executed(Registry.Change memory change) internal {
        _registry.execute(change, _approvals(_digest(change), _K));
    }

    /// @dev The same, expected to be refused.
    function _refused(Registry.Change memory change, bytes memory revertData) internal {
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        VM.expectRevert(revertData);
        _registry.execute(change, approvals);
    }

    function _approvals(bytes32 digest, uint256 count)
        internal
        pure
        returns (Registry.Approval[] memory approvals)
    {
        approvals = new Registry.Approval[](count);
        for (uint256 i = 0; i < count; ++i) {
            approvals[i] = Registry.Approval(_org(i), _signed(_secret(i), digest));
        }
    }

    function _signed(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev Whose signature of `digest` this would be: of a key that nobody has, mostly.
    function _signerOf(bytes32 digest, bytes memory signature) internal pure returns (address) {
        return ECDSA.recover(digest, signature);
    }

    function _digest(Registry.Change memory change) internal view returns (bytes32) {
        return _digest(_hash(change));
    }

    function _digest(bytes32 structHash) internal view returns (bytes32) {
        return _digest(structHash, block.chainid, address(_registry));
    }

    function _digest(bytes32 structHash, uint256 chainId, address verifier)
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
                keccak256("Foedus Registry"),
                keccak256("1"),
                chainId,
                verifier
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function _hash(Registry.Change memory change) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "Change(uint8 kind,bytes32 organization,address account,bytes32 nodeKey,"
                    "bytes32 metadata,bytes32 role,uint16 threshold,uint256 nonce,uint256 deadline)"
                ),
                uint8(change.kind),
                change.organization,
                change.account,
                change.nodeKey,
                change.metadata,
                change.role,
                change.threshold,
                change.nonce,
                change.deadline
            )
        );
    }

    function _rotationDigest(uint256 number, address newKey, uint256 nonce)
        internal
        view
        returns (bytes32)
    {
        bytes32 kind = keccak256(
            "KeyRotation(bytes32 organization,address newKey,uint256 nonce,uint256 deadline)"
        );
        return _digest(keccak256(abi.encode(kind, _org(number), newKey, nonce, _DEADLINE)));
    }

    function _cancellationDigest(uint256 number, address newKey, uint256 nonce)
        internal
        view
        returns (bytes32)
    {
        bytes32 kind = keccak256(
            "RecoveryCancellation(bytes32 organization,address newKey,"
            "uint256 nonce,uint256 deadline)"
        );
        return _digest(keccak256(abi.encode(kind, _org(number), newKey, nonce, _DEADLINE)));
    }

    function _profileDigest(uint256 number, bytes32 nodeKey, bytes32 metadata, uint256 nonce)
        internal
        view
        returns (bytes32)
    {
        bytes32 kind = keccak256(
            "ProfileUpdate(bytes32 organization,bytes32 nodeKey,bytes32 metadata,"
            "uint256 nonce,uint256 deadline)"
        );
        return
            _digest(keccak256(abi.encode(kind, _org(number), nodeKey, metadata, nonce, _DEADLINE)));
    }

    function _departureDigest(uint256 number, uint256 nonce) internal view returns (bytes32) {
        bytes32 kind = keccak256("Departure(bytes32 organization,uint256 nonce,uint256 deadline)");
        return _digest(keccak256(abi.encode(kind, _org(number), nonce, _DEADLINE)));
    }

    /// @dev Rotates the key of an organization from one generation to the next.
    function _rotated(uint256 number, uint256 from) internal {
        address newKey = _key(number, from + 1);
        bytes32 digest = _rotationDigest(number, newKey, _registry.nonceOf(_org(number)));
        bytes memory old = _signed(_secret(number, from), digest);
        bytes memory possession = _signed(_secret(number, from + 1), digest);
        _registry.rotateKey(_org(number), newKey, _DEADLINE, old, possession);
    }

    /// @dev Lets an organization leave by its own signature.
    function _departed(uint256 number) internal {
        bytes memory signature = _departure(number);
        _registry.depart(_org(number), _DEADLINE, signature);
    }

    function _departure(uint256 number) internal view returns (bytes memory) {
        bytes32 digest = _departureDigest(number, _registry.nonceOf(_org(number)));
        return _signed(_secret(number), digest);
    }
}
