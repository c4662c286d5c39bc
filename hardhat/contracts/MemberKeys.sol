// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

import {IRegistry} from "./IRegistry.sol";

/// @title Members and their signing keys
/// @notice What an organization does about itself: it rotates its key, calls off a recovery and
/// replaces its profile, each by its own signature, which anyone may bring. Who is a member, and
/// which recoveries are proposed, is for the contract that builds on this one to decide.
/// @dev One trace per organization holds both its keys and its membership: zero from the block in
/// which it left. Blocks are the finest grain, so of several keys within one block the last counts.
/// Signatures are 65 bytes of a plain account with a low s; contracts cannot be members.
abstract contract MemberKeys is IRegistry, EIP712 {
    using Checkpoints for Checkpoints.Trace160;
    using EnumerableSet for EnumerableSet.Bytes32Set;

    /// @notice An organization as readers see it, also after it left.
    /// @param key Current signing key; zero if it is not a member.
    /// @param nodeKey Hash of the key of its node, as last set.
    /// @param metadata Hash of its metadata, as last set.
    /// @param nonce Nonce that its next own signature must carry.
    struct Member {
        address key;
        bytes32 nodeKey;
        bytes32 metadata;
        uint256 nonce;
    }

    /// @notice The key of an organization from a block on.
    /// @param fromBlock First block of the period, which lasts until the next one starts.
    /// @param key Signing key; zero where the organization was not a member.
    struct KeyPeriod {
        uint96 fromBlock;
        address key;
    }

    /// @notice A recovery that waits for its delay to pass.
    /// @param newKey Key that the organization is to have; zero if no recovery is pending.
    /// @param readyAt Time from which on anyone may complete the recovery.
    struct Recovery {
        address newKey;
        uint48 readyAt;
    }

    /// @dev The nonce outlives membership, so that nothing signed before can be replayed after.
    struct StoredMember {
        bytes32 nodeKey;
        bytes32 metadata;
        uint256 nonce;
        // Beside the trace, which forgets a key replaced or given up within the block it came in.
        address lastKey;
        Checkpoints.Trace160 keys;
    }

    bytes32 private constant _KEY_ROTATION = keccak256(
        "KeyRotation(bytes32 organization,address newKey,uint256 nonce,uint256 deadline)"
    );
    bytes32 private constant _RECOVERY_CANCELLATION = keccak256(
        "RecoveryCancellation(bytes32 organization,address newKey,uint256 nonce,uint256 deadline)"
    );
    bytes32 private constant _PROFILE_UPDATE = keccak256(
        "ProfileUpdate(bytes32 organization,bytes32 nodeKey,bytes32 metadata,"
        "uint256 nonce,uint256 deadline)"
    );

    uint32 private immutable _recoveryDelay;

    EnumerableSet.Bytes32Set private _current;
    mapping(bytes32 organization => StoredMember) private _stored;
    mapping(bytes32 organization => Recovery) private _recoveries;
    mapping(address key => bytes32 organization) private _holders;

    /// @notice An organization became a member, for the first time or again.
    event MemberJoined(
        bytes32 indexed organization, address indexed key, bytes32 nodeKey, bytes32 metadata
    );

    /// @notice An organization ceased to be a member, of its own will or not.
    event MemberLeft(bytes32 indexed organization, address indexed key);

    /// @notice The signing key of an organization was replaced, by rotation or by recovery.
    event KeyRotated(
        bytes32 indexed organization, address indexed oldKey, address indexed newKey
    );

    /// @notice An organization replaced its node key, its metadata or both.
    event ProfileUpdated(bytes32 indexed organization, bytes32 nodeKey, bytes32 metadata);

    /// @notice A recovery was proposed, to be completed from `readyAt` on.
    event RecoveryProposed(bytes32 indexed organization, address indexed newKey, uint48 readyAt);

    /// @notice A recovery was called off: by the organization's signature, because it rotated its
    /// key or left, or by another proposal.
    event RecoveryCancelled(bytes32 indexed organization, address indexed newKey);

    /// @notice A recovery was completed.
    event RecoveryCompleted(bytes32 indexed organization, address indexed newKey);

    /// @notice A hash, an address or a delay that must be given was zero.
    error MemberKeysZeroValue(string field);

    /// @notice The organization is not a member.
    error MemberKeysNotMember(bytes32 organization);

    /// @notice The organization is a member already.
    error MemberKeysAlreadyMember(bytes32 organization);

    /// @notice The key belongs or once belonged to an organization.
    error MemberKeysKeyTaken(address key, bytes32 holder);

    /// @notice The signature is not that of the key it should be of.
    error MemberKeysWrongSigner(bytes32 organization, address signer, address expected);

    /// @notice The time until which the signatures held has passed.
    error MemberKeysExpired(uint256 deadline, uint256 timestamp);

    /// @notice Nothing is known yet about this block.
    error MemberKeysFutureBlock(uint256 blockNumber, uint256 current);

    /// @notice No recovery of the organization is pending.
    error MemberKeysNoRecovery(bytes32 organization);

    /// @notice The delay of the recovery has not passed.
    error MemberKeysRecoveryNotReady(bytes32 organization, uint48 readyAt, uint256 timestamp);

    /// @param recoveryDelay_ Seconds between the proposal of a recovery and its completion, in
    /// which the organization may object.
    constructor(uint32 recoveryDelay_) EIP712("Foedus Registry", "1") {
        if (recoveryDelay_ == 0) revert MemberKeysZeroValue("recoveryDelay");
        _recoveryDelay = recoveryDelay_;
    }

    /// @notice Replaces the signing key of a member at once, and calls off a pending recovery.
    /// @param organization Member whose key it is.
    /// @param newKey Key that no organization ever had.
    /// @param deadline Last second at which the signatures hold.
    /// @param oldSignature Signature of the current key over the `KeyRotation`.
    /// @param newSignature Signature of the new key over the same, as proof of its possession.
    function rotateKey(
        bytes32 organization,
        address newKey,
        uint256 deadline,
        bytes calldata oldSignature,
        bytes calldata newSignature
    ) external {
        bytes32 digest = _authorize(
            organization,
            deadline,
            abi.encode(_KEY_ROTATION, organization, newKey, nonceOf(organization), deadline),
            oldSignature
        );
        _requireSigner(organization, digest, newSignature, newKey);
        _dropRecovery(organization);
        _replaceKey(organization, newKey);
    }

    /// @notice Puts the key of a pending recovery in place once its delay has passed; for anyone.
    function completeRecovery(bytes32 organization) external {
        Recovery memory pending = _pendingRecovery(organization);
        if (block.timestamp < pending.readyAt) {
            revert MemberKeysRecoveryNotReady(organization, pending.readyAt, block.timestamp);
        }
        delete _recoveries[organization];
        emit RecoveryCompleted(organization, pending.newKey);
        _replaceKey(organization, pending.newKey);
    }

    /// @notice Calls off the pending recovery of a member.
    /// @dev Whoever stole a key can do so too; the others can still remove the organization and
    /// admit it again.
    /// @param organization Member whose key was to be replaced.
    /// @param deadline Last second at which the signature holds.
    /// @param signature Signature of the current key over the `RecoveryCancellation`, which names
    /// the key of the pending recovery.
    function cancelRecovery(bytes32 organization, uint256 deadline, bytes calldata signature)
        external
    {
        address newKey = _pendingRecovery(organization).newKey;
        uint256 nonce = nonceOf(organization);
        _authorize(
            organization,
            deadline,
            abi.encode(_RECOVERY_CANCELLATION, organization, newKey, nonce, deadline),
            signature
        );
        _dropRecovery(organization);
    }

    /// @notice Replaces the node key and the metadata of a member; to keep one, give it again.
    /// @param organization Member whose profile it is.
    /// @param nodeKey Hash of the key of its node.
    /// @param metadata Hash of its metadata.
    /// @param deadline Last second at which the signature holds.
    /// @param signature Signature of the current key over the `ProfileUpdate`.
    function updateProfile(
        bytes32 organization,
        bytes32 nodeKey,
        bytes32 metadata,
        uint256 deadline,
        bytes calldata signature
    ) external {
        uint256 nonce = nonceOf(organization);
        _authorize(
            organization,
            deadline,
            abi.encode(_PROFILE_UPDATE, organization, nodeKey, metadata, nonce, deadline),
            signature
        );
        _setProfile(organization, nodeKey, metadata);
        emit ProfileUpdated(organization, nodeKey, metadata);
    }

    /// @inheritdoc IRegistry
    function keyAt(bytes32 organization, uint256 blockNumber) public view returns (address) {
        if (blockNumber > block.number) revert MemberKeysFutureBlock(blockNumber, block.number);
        return address(_stored[organization].keys.upperLookupRecent(uint96(blockNumber)));
    }

    /// @inheritdoc IRegistry
    function lastKeyOf(bytes32 organization) external view returns (address) {
        return _stored[organization].lastKey;
    }

    /// @inheritdoc IRegistry
    function isMember(bytes32 organization) public view returns (bool) {
        return _current.contains(organization);
    }

    /// @inheritdoc IRegistry
    function isMemberAt(bytes32 organization, uint256 blockNumber) external view returns (bool) {
        return keyAt(organization, blockNumber) != address(0);
    }

    /// @notice All members, in no particular order.
    function members() external view returns (bytes32[] memory) {
        return _current.values();
    }

    /// @notice An organization; all zero if it never was a member.
    function getMember(bytes32 organization) external view returns (Member memory) {
        StoredMember storage stored = _stored[organization];
        return Member({
            key: keyOf(organization),
            nodeKey: stored.nodeKey,
            metadata: stored.metadata,
            nonce: stored.nonce
        });
    }

    /// @notice Every key of an organization, the oldest first.
    function keyHistory(bytes32 organization) external view returns (KeyPeriod[] memory periods) {
        Checkpoints.Trace160 storage keys = _stored[organization].keys;
        periods = new KeyPeriod[](keys.length());
        for (uint32 i = 0; i < periods.length; ++i) {
            Checkpoints.Checkpoint160 memory checkpoint = keys.pos(i);
            periods[i] = KeyPeriod(checkpoint._key, address(checkpoint._value));
        }
    }

    /// @notice Organization that has or once had this key; zero if none ever had.
    function holderOf(address key) external view returns (bytes32) {
        return _holders[key];
    }

    /// @notice The pending recovery of an organization; all zero if there is none.
    function recoveryOf(bytes32 organization) external view returns (Recovery memory) {
        return _recoveries[organization];
    }

    /// @notice Seconds between the proposal of a recovery and its completion.
    function recoveryDelay() external view returns (uint32) {
        return _recoveryDelay;
    }

    /// @inheritdoc IRegistry
    function keyOf(bytes32 organization) public view returns (address) {
        return address(_stored[organization].keys.latest());
    }

    /// @notice Nonce that the next own signature of an organization must carry.
    function nonceOf(bytes32 organization) public view returns (uint256) {
        return _stored[organization].nonce;
    }

    /// @notice Number of members.
    function memberCount() public view returns (uint256) {
        return _current.length();
    }

    /// @dev Makes an organization a member. Also one that left comes with a key never used before.
    function _join(bytes32 organization, address key, bytes32 nodeKey, bytes32 metadata) internal {
        if (organization == 0) revert MemberKeysZeroValue("organization");
        if (!_current.add(organization)) revert MemberKeysAlreadyMember(organization);
        _requireFree(key);
        _pushKey(organization, key);
        _setProfile(organization, nodeKey, metadata);
        emit MemberJoined(organization, key, nodeKey, metadata);
    }

    /// @dev Ends a membership. Its past, its profile and its nonce stay.
    function _part(bytes32 organization) internal {
        address key = _requireMember(organization);
        _dropRecovery(organization);
        _current.remove(organization);
        _stored[organization].keys.push(uint96(block.number), 0);
        emit MemberLeft(organization, key);
    }

    /// @dev Starts the delay of a recovery, in place of any that is pending.
    function _proposeRecovery(bytes32 organization, address newKey) internal {
        _requireMember(organization);
        _requireFree(newKey);
        _dropRecovery(organization);
        uint48 readyAt = uint48(block.timestamp) + _recoveryDelay;
        _recoveries[organization] = Recovery(newKey, readyAt);
        emit RecoveryProposed(organization, newKey, readyAt);
    }

    /// @dev Uses up one nonce of a member that signed the struct encoded in `data`.
    function _authorize(
        bytes32 organization,
        uint256 deadline,
        bytes memory data,
        bytes calldata signature
    ) internal returns (bytes32 digest) {
        _requireInTime(deadline);
        digest = _hashTypedDataV4(keccak256(data));
        _requireSigner(organization, digest, signature, _requireMember(organization));
        ++_stored[organization].nonce;
    }

    function _requireSigner(
        bytes32 organization,
        bytes32 digest,
        bytes calldata signature,
        address expected
    ) internal pure {
        address signer = ECDSA.recoverCalldata(digest, signature);
        if (signer != expected) revert MemberKeysWrongSigner(organization, signer, expected);
    }

    function _requireMember(bytes32 organization) internal view returns (address key) {
        key = keyOf(organization);
        if (key == address(0)) revert MemberKeysNotMember(organization);
    }

    function _requireInTime(uint256 deadline) internal view {
        if (block.timestamp > deadline) revert MemberKeysExpired(deadline, block.timestamp);
    }

    function _replaceKey(bytes32 organization, address newKey) private {
        address oldKey = keyOf(organization);
        _requireFree(newKey);
        _pushKey(organization, newKey);
        emit KeyRotated(organization, oldKey, newKey);
    }

    function _pushKey(bytes32 organization, address key) private {
        _holders[key] = organization;
        StoredMember storage stored = _stored[organization];
        stored.lastKey = key;
        stored.keys.push(uint96(block.number), uint160(key));
    }

    function _setProfile(bytes32 organization, bytes32 nodeKey, bytes32 metadata) private {
        if (nodeKey == 0) revert MemberKeysZeroValue("nodeKey");
        if (metadata == 0) revert MemberKeysZeroValue("metadata");
        StoredMember storage stored = _stored[organization];
        stored.nodeKey = nodeKey;
        stored.metadata = metadata;
    }

    function _dropRecovery(bytes32 organization) private {
        address newKey = _recoveries[organization].newKey;
        if (newKey == address(0)) return;
        delete _recoveries[organization];
        emit RecoveryCancelled(organization, newKey);
    }

    function _requireFree(address key) private view {
        if (key == address(0)) revert MemberKeysZeroValue("key");
        bytes32 holder = _holders[key];
        if (holder != 0) revert MemberKeysKeyTaken(key, holder);
    }

    function _pendingRecovery(bytes32 organization) private view returns (Recovery memory pending) {
        pending = _recoveries[organization];
        if (pending.newKey == address(0)) revert MemberKeysNoRecovery(organization);
    }
}
