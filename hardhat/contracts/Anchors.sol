// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {ConsistencyProof} from "./ConsistencyProof.sol";
import {IRegistry} from "./IRegistry.sol";

/// @title Anchors of organizations' private ledgers
/// @notice An organization signs the size and the root of its ledger, a transparency log of
/// RFC 9162, and anyone may bring them here. Each anchor but the first proves that the ledger still
/// begins with all that the last one anchored: what was once written can neither be changed nor
/// taken back, not even with a new key.
/// @dev Keyed by the organization and not by its key, so that a rotation goes on with the same
/// ledger. Only the last anchor is stored; those before are in the events. A signature cannot be
/// used again, since sizes only grow.
contract Anchors is EIP712 {
    /// @notice An organization's last anchor.
    /// @param size Number of entries of its ledger; 0 before the first anchor.
    /// @param root Root of its ledger; zero before the first anchor.
    /// @param anchoredBlock Block in which it was anchored.
    struct Anchor {
        uint64 size;
        bytes32 root;
        uint64 anchoredBlock;
    }

    /// @dev One word beside the root.
    struct StoredAnchor {
        uint64 size;
        uint48 anchoredBlock;
        bytes32 root;
    }

    bytes32 private constant _ANCHOR_TYPE =
        keccak256("Anchor(bytes32 organization,uint64 size,bytes32 root,uint256 deadline)");

    /// @notice Where the key of each organization is looked up.
    IRegistry public immutable REGISTRY;

    mapping(bytes32 organization => StoredAnchor) private _anchors;

    /// @notice An organization's ledger was anchored.
    /// @param organization Id of the organization.
    /// @param size Number of entries of its ledger.
    /// @param root Root of its ledger.
    /// @param previousSize Size of the anchor that it was proven to extend; 0 for the first.
    event Anchored(
        bytes32 indexed organization, uint64 size, bytes32 root, uint64 previousSize
    );

    /// @notice There is no contract at the registry's address.
    error AnchorsNoRegistry(address registry);

    /// @notice No ledger has a root of zero.
    error AnchorsZeroRoot(bytes32 organization, uint64 size);

    /// @notice The time until which the organization allowed this anchor is over.
    error AnchorsExpired(uint256 deadline, uint256 timestamp);

    /// @notice A ledger only grows.
    error AnchorsNotGrowing(bytes32 organization, uint64 size, uint64 anchoredSize);

    /// @notice The registry has no key for this organization.
    error AnchorsNoKey(bytes32 organization);

    /// @notice The organization's key did not sign this; a malformed signature has signer zero.
    error AnchorsWrongSigner(bytes32 organization, address signer, address key);

    /// @notice The ledger is not shown to begin with what was anchored before.
    error AnchorsInconsistent(
        bytes32 organization, uint64 size, bytes32 root, uint64 anchoredSize, bytes32 anchoredRoot
    );

    /// @notice The first anchor has nothing to be consistent with.
    error AnchorsUnexpectedProof(bytes32 organization, uint256 length);

    /// @param registry Registry of the organizations' keys, for good.
    constructor(IRegistry registry) EIP712("Foedus Anchors", "1") {
        if (address(registry).code.length == 0) revert AnchorsNoRegistry(address(registry));
        REGISTRY = registry;
    }

    /// @notice Anchors an organization's ledger as the organization signed it.
    /// @param organization Id of the organization.
    /// @param size Number of entries of its ledger, more than were anchored before.
    /// @param root Root of its ledger.
    /// @param deadline Time, in seconds since 1970, until which the signature may be used.
    /// @param signature Signature of the organization's present key over `Anchor`, by EIP-712.
    /// @param proof Consistency proof from the last anchor; empty for the first.
    function anchor(
        bytes32 organization,
        uint64 size,
        bytes32 root,
        uint256 deadline,
        bytes calldata signature,
        bytes32[] calldata proof
    ) external {
        if (root == 0) revert AnchorsZeroRoot(organization, size);
        if (block.timestamp > deadline) revert AnchorsExpired(deadline, block.timestamp);
        StoredAnchor storage stored = _anchors[organization];
        uint64 previous = stored.size;
        if (size <= previous) revert AnchorsNotGrowing(organization, size, previous);
        bytes32 digest = hashOf(organization, size, root, deadline);
        _requireSigned(organization, digest, signature);
        if (previous == 0) {
            if (proof.length != 0) revert AnchorsUnexpectedProof(organization, proof.length);
        } else {
            bytes32 previousRoot = stored.root;
            if (!ConsistencyProof.verify(previous, size, previousRoot, root, proof)) {
                revert AnchorsInconsistent(organization, size, root, previous, previousRoot);
            }
        }
        stored.size = size;
        stored.anchoredBlock = uint48(block.number);
        stored.root = root;
        emit Anchored(organization, size, root, previous);
    }

    /// @notice The last anchor of an organization; all zero before the first.
    function anchorOf(bytes32 organization) external view returns (Anchor memory) {
        StoredAnchor storage stored = _anchors[organization];
        return Anchor({
            size: stored.size, root: stored.root, anchoredBlock: stored.anchoredBlock
        });
    }

    /// @notice What an organization signs to anchor its ledger here.
    function hashOf(bytes32 organization, uint64 size, bytes32 root, uint256 deadline)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(
            keccak256(abi.encode(_ANCHOR_TYPE, organization, size, root, deadline))
        );
    }

    function _requireSigned(bytes32 organization, bytes32 digest, bytes calldata signature)
        private
        view
    {
        address key = REGISTRY.keyOf(organization);
        if (key == address(0)) revert AnchorsNoKey(organization);
        // OpenZeppelin refuses the second form (high s) of each signature, and any odd length.
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (signer != key) revert AnchorsWrongSigner(organization, signer, key);
    }
}
