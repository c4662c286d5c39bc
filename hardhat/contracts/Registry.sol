// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

import {COORDINATOR, IRegistry, PAUSER} from "./IRegistry.sol";
import {MemberKeys} from "./MemberKeys.sol";

/// @title Registry of the organizations that train together
/// @notice Members, attestors, thresholds and roles change only by signatures of `threshold` of the
/// members over one and the same change, whoever brings them. Nobody owns this contract, nobody can
/// replace its code, and no role, the coordinator's included, holds a vote. A member may leave and
/// look after its own key by itself (see `MemberKeys`).
/// @dev Each change carries the next number of one sequence, so it can be made only once, and all
/// that was signed for that number instead is void.
contract Registry is MemberKeys {
    using EnumerableSet for EnumerableSet.AddressSet;
    using EnumerableSet for EnumerableSet.Bytes32Set;

    /// @notice What a change does, with the fields that it uses in brackets.
    /// AdmitMember (organization, account: its key, nodeKey, metadata, threshold: that of the
    /// members from then on), RemoveMember (organization, threshold: likewise), SetThreshold
    /// (threshold), AddAttestor and RemoveAttestor (organization), SetAttestorThreshold
    /// (threshold), GrantRole and RevokeRole (role, account), ProposeRecovery (organization,
    /// account: its key to be).
    enum Kind {
        AdmitMember,
        RemoveMember,
        SetThreshold,
        AddAttestor,
        RemoveAttestor,
        SetAttestorThreshold,
        GrantRole,
        RevokeRole,
        ProposeRecovery
    }

    /// @notice A change that members sign. The fields that its kind uses are given, all others are
    /// zero, so that what was signed says exactly what happens.
    /// @param nonce Number of the change: `changeNonce` when it is made.
    /// @param deadline Last second at which it may be made.
    struct Change {
        Kind kind;
        bytes32 organization;
        address account;
        bytes32 nodeKey;
        bytes32 metadata;
        bytes32 role;
        uint16 threshold;
        uint256 nonce;
        uint256 deadline;
    }

    /// @notice One member's signature of a change.
    /// @param organization Member that signed.
    /// @param signature Signature of its current key over the `Change`.
    struct Approval {
        bytes32 organization;
        bytes signature;
    }

    /// @notice A member from the start.
    /// @param organization Id of the organization, for good.
    /// @param key Its signing key.
    /// @param nodeKey Hash of the key of its node.
    /// @param metadata Hash of its metadata.
    struct Founder {
        bytes32 organization;
        address key;
        bytes32 nodeKey;
        bytes32 metadata;
    }

    /// @notice What the registry starts with.
    /// @param founders First members.
    /// @param threshold Number of members that a change needs.
    /// @param attestors First attestors, all of them founders.
    /// @param attestorThreshold Number of attestors that an attestation needs.
    /// @param coordinators Accounts with the role `COORDINATOR`, at least one.
    /// @param pauser Account with the role `PAUSER`.
    /// @param recoveryDelay Seconds between the proposal of a recovery and its completion.
    struct Founding {
        Founder[] founders;
        uint16 threshold;
        bytes32[] attestors;
        uint16 attestorThreshold;
        address[] coordinators;
        address pauser;
        uint32 recoveryDelay;
    }

    bytes32 private constant _CHANGE = keccak256(
        "Change(uint8 kind,bytes32 organization,address account,bytes32 nodeKey,bytes32 metadata,"
        "bytes32 role,uint16 threshold,uint256 nonce,uint256 deadline)"
    );
    bytes32 private constant _DEPARTURE =
        keccak256("Departure(bytes32 organization,uint256 nonce,uint256 deadline)");

    /// @dev One bit for each field that a kind may use.
    uint8 private constant _ORGANIZATION = 1;
    uint8 private constant _ACCOUNT = 2;
    uint8 private constant _NODE_KEY = 4;
    uint8 private constant _METADATA = 8;
    uint8 private constant _ROLE = 16;
    uint8 private constant _THRESHOLD = 32;

    uint16 private _threshold;
    uint16 private _attestorThreshold;
    uint256 private _changeNonce;
    EnumerableSet.Bytes32Set private _attestors;
    mapping(bytes32 role => EnumerableSet.AddressSet) private _roles;

    /// @notice A change was made; the signatures are in the transaction that brought them.
    event ChangeExecuted(uint256 indexed nonce, Kind indexed kind, bytes32 digest);

    /// @notice The number of members that a change needs was replaced.
    event ThresholdChanged(uint16 oldThreshold, uint16 newThreshold);

    /// @notice A member became an attestor.
    event AttestorAdded(bytes32 indexed organization);

    /// @notice An organization ceased to be an attestor.
    event AttestorRemoved(bytes32 indexed organization);

    /// @notice The number of attestors that an attestation needs was replaced.
    event AttestorThresholdChanged(uint16 oldThreshold, uint16 newThreshold);

    /// @notice An account was given a role.
    event RoleGranted(bytes32 indexed role, address indexed account);

    /// @notice An account lost a role.
    event RoleRevoked(bytes32 indexed role, address indexed account);

    /// @notice The threshold would not be between two (one, for a single member) and the number of
    /// members.
    error RegistryThresholdOutOfRange(uint16 threshold, uint256 members);

    /// @notice The attestors' threshold would not be between one and the number of attestors.
    error RegistryAttestorThresholdOutOfRange(uint16 threshold, uint256 attestors);

    /// @notice Changes are made one after the other.
    error RegistryUnexpectedNonce(uint256 nonce, uint256 expected);

    /// @notice Fewer members signed than a change needs.
    error RegistryTooFewApprovals(uint256 approvals, uint16 needed);

    /// @notice Approvals come by ascending organization, none of them twice.
    error RegistryUnsortedApprovals(bytes32 organization, bytes32 previous);

    /// @notice The fields given, one bit for each, are not those of the kind.
    error RegistryUnexpectedFields(Kind kind, uint8 given, uint8 expected);

    /// @notice The organization is an attestor already.
    error RegistryAlreadyAttestor(bytes32 organization);

    /// @notice The organization is not an attestor.
    error RegistryNotAttestor(bytes32 organization);

    /// @notice There is no such role.
    error RegistryUnknownRole(bytes32 role);

    /// @notice The account has the role already.
    error RegistryRoleHeld(bytes32 role, address account);

    /// @notice The account does not have the role.
    error RegistryRoleNotHeld(bytes32 role, address account);

    /// @notice A registry starts with a coordinator.
    error RegistryNoCoordinator();

    /// @notice Starts the registry. Founders agree on it off the chain, before they take part.
    constructor(Founding memory founding) MemberKeys(founding.recoveryDelay) {
        for (uint256 i = 0; i < founding.founders.length; ++i) {
            Founder memory founder = founding.founders[i];
            _join(founder.organization, founder.key, founder.nodeKey, founder.metadata);
        }
        _setThreshold(founding.threshold);
        for (uint256 i = 0; i < founding.attestors.length; ++i) _addAttestor(founding.attestors[i]);
        _setAttestorThreshold(founding.attestorThreshold);
        if (founding.coordinators.length == 0) revert RegistryNoCoordinator();
        for (uint256 i = 0; i < founding.coordinators.length; ++i) {
            _grantRole(COORDINATOR, founding.coordinators[i]);
        }
        _grantRole(PAUSER, founding.pauser);
    }

    /// @notice Makes a change that enough members signed; for anyone.
    /// @param change The change.
    /// @param approvals Signatures of at least `threshold` members, strictly ascending by
    /// organization so that none counts twice; all of them must be valid.
    function execute(Change calldata change, Approval[] calldata approvals) external {
        _requireInTime(change.deadline);
        uint256 nonce = _changeNonce;
        if (change.nonce != nonce) revert RegistryUnexpectedNonce(change.nonce, nonce);
        // Every member of the struct takes one word, as EIP-712 encodes it too.
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(_CHANGE, change)));
        _requireApproved(digest, approvals);
        _requireFields(change);
        _changeNonce = nonce + 1;
        emit ChangeExecuted(nonce, change.kind, digest);
        _apply(change);
    }

    /// @notice Ends the membership of an organization by its own signature; refused if too few
    /// members or attestors would be left for the thresholds.
    /// @param organization Member that leaves.
    /// @param deadline Last second at which the signature holds.
    /// @param signature Signature of its current key over the `Departure`.
    function depart(bytes32 organization, uint256 deadline, bytes calldata signature) external {
        _authorize(
            organization,
            deadline,
            abi.encode(_DEPARTURE, organization, nonceOf(organization), deadline),
            signature
        );
        _removeMember(organization, _threshold);
    }

    /// @notice Number of members that a change needs.
    function threshold() external view returns (uint16) {
        return _threshold;
    }

    /// @notice Number that the next change must carry.
    function changeNonce() external view returns (uint256) {
        return _changeNonce;
    }

    /// @notice All attestors, in no particular order.
    function attestors() external view returns (bytes32[] memory) {
        return _attestors.values();
    }

    /// @notice All accounts with a role, in no particular order.
    function roleHolders(bytes32 role) external view returns (address[] memory) {
        return _roles[role].values();
    }

    /// @inheritdoc IRegistry
    function attestorThreshold() external view returns (uint16) {
        return _attestorThreshold;
    }

    /// @inheritdoc IRegistry
    function isAttestor(bytes32 organization) external view returns (bool) {
        return _attestors.contains(organization);
    }

    /// @inheritdoc IRegistry
    function hasRole(bytes32 role, address account) external view returns (bool) {
        return _roles[role].contains(account);
    }

    function _apply(Change calldata change) private {
        Kind kind = change.kind;
        if (kind == Kind.AdmitMember) {
            _join(change.organization, change.account, change.nodeKey, change.metadata);
            _setThreshold(change.threshold);
        } else if (kind == Kind.RemoveMember) {
            _removeMember(change.organization, change.threshold);
        } else if (kind == Kind.SetThreshold) {
            _setThreshold(change.threshold);
        } else if (kind == Kind.AddAttestor) {
            _addAttestor(change.organization);
        } else if (kind == Kind.RemoveAttestor) {
            if (!_removeAttestor(change.organization)) {
                revert RegistryNotAttestor(change.organization);
            }
        } else if (kind == Kind.SetAttestorThreshold) {
            _setAttestorThreshold(change.threshold);
        } else if (kind == Kind.GrantRole) {
            _grantRole(change.role, change.account);
        } else if (kind == Kind.RevokeRole) {
            _revokeRole(change.role, change.account);
        } else {
            _proposeRecovery(change.organization, change.account);
        }
    }

    function _removeMember(bytes32 organization, uint16 newThreshold) private {
        _part(organization);
        _setThreshold(newThreshold);
        _removeAttestor(organization);
    }

    /// @dev One signature must never be enough where there are several members, or whoever steals a
    /// single key could replace them all; hence two at least. More than all members could never
    /// sign, which would lock the registry. A threshold of all members is allowed, but then any of
    /// them can block every change, and a lost key can never be recovered.
    function _setThreshold(uint16 newThreshold) private {
        uint256 count = memberCount();
        if (newThreshold > count || newThreshold == 0 || (newThreshold == 1 && count > 1)) {
            revert RegistryThresholdOutOfRange(newThreshold, count);
        }
        uint16 oldThreshold = _threshold;
        if (newThreshold == oldThreshold) return;
        _threshold = newThreshold;
        emit ThresholdChanged(oldThreshold, newThreshold);
    }

    function _addAttestor(bytes32 organization) private {
        _requireMember(organization);
        if (!_attestors.add(organization)) revert RegistryAlreadyAttestor(organization);
        emit AttestorAdded(organization);
    }

    /// @dev Whether the organization was an attestor; refused where too few would be left.
    function _removeAttestor(bytes32 organization) private returns (bool removed) {
        removed = _attestors.remove(organization);
        if (!removed) return false;
        uint256 count = _attestors.length();
        if (count < _attestorThreshold) {
            revert RegistryAttestorThresholdOutOfRange(_attestorThreshold, count);
        }
        emit AttestorRemoved(organization);
    }

    function _setAttestorThreshold(uint16 newThreshold) private {
        uint256 count = _attestors.length();
        if (newThreshold > count || newThreshold == 0) {
            revert RegistryAttestorThresholdOutOfRange(newThreshold, count);
        }
        uint16 oldThreshold = _attestorThreshold;
        _attestorThreshold = newThreshold;
        emit AttestorThresholdChanged(oldThreshold, newThreshold);
    }

    function _grantRole(bytes32 role, address account) private {
        if (role != COORDINATOR && role != PAUSER) revert RegistryUnknownRole(role);
        if (account == address(0)) revert MemberKeysZeroValue("account");
        if (!_roles[role].add(account)) revert RegistryRoleHeld(role, account);
        emit RoleGranted(role, account);
    }

    function _revokeRole(bytes32 role, address account) private {
        if (!_roles[role].remove(account)) revert RegistryRoleNotHeld(role, account);
        emit RoleRevoked(role, account);
    }

    function _requireApproved(bytes32 digest, Approval[] calldata approvals) private view {
        if (approvals.length < _threshold) {
            revert RegistryTooFewApprovals(approvals.length, _threshold);
        }
        bytes32 previous = 0;
        for (uint256 i = 0; i < approvals.length; ++i) {
            bytes32 organization = approvals[i].organization;
            if (organization <= previous) revert RegistryUnsortedApprovals(organization, previous);
            previous = organization;
            address key = _requireMember(organization);
            _requireSigner(organization, digest, approvals[i].signature, key);
        }
    }

    function _requireFields(Change calldata change) private pure {
        uint8 given;
        if (change.organization != 0) given |= _ORGANIZATION;
        if (change.account != address(0)) given |= _ACCOUNT;
        if (change.nodeKey != 0) given |= _NODE_KEY;
        if (change.metadata != 0) given |= _METADATA;
        if (change.role != 0) given |= _ROLE;
        if (change.threshold != 0) given |= _THRESHOLD;
        uint8 expected = _fieldsOf(change.kind);
        if (given != expected) revert RegistryUnexpectedFields(change.kind, given, expected);
    }

    function _fieldsOf(Kind kind) private pure returns (uint8) {
        if (kind == Kind.AdmitMember) {
            return _ORGANIZATION | _ACCOUNT | _NODE_KEY | _METADATA | _THRESHOLD;
        }
        if (kind == Kind.RemoveMember) return _ORGANIZATION | _THRESHOLD;
        if (kind == Kind.AddAttestor || kind == Kind.RemoveAttestor) return _ORGANIZATION;
        if (kind == Kind.GrantRole || kind == Kind.RevokeRole) return _ROLE | _ACCOUNT;
        if (kind == Kind.ProposeRecovery) return _ORGANIZATION | _ACCOUNT;
        return _THRESHOLD;
    }
}
