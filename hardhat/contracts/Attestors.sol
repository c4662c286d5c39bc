// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {IRegistry} from "./IRegistry.sol";

/// @title What attestors sign, whoever brings it
/// @notice An attestation counts when enough of the registry's attestors signed it with the keys
/// that they have now. Each signs its own name with it, so that one signature is one word.
abstract contract Attestors is EIP712 {
    /// @notice One attestor's signature.
    /// @param organization Attestor that signed.
    /// @param signature Signature of its current key.
    struct Approval {
        bytes32 organization;
        bytes signature;
    }

    /// @notice Where organizations, their keys and the attestors are looked up.
    IRegistry public immutable REGISTRY;

    /// @notice There is no contract at the registry's address.
    error AttestorsNoRegistry(address registry);

    /// @notice Fewer attestors signed than an attestation needs.
    error AttestorsTooFew(uint256 approvals, uint16 needed);

    /// @notice Approvals come by ascending organization, none of them twice.
    error AttestorsUnsorted(bytes32 organization, bytes32 previous);

    /// @notice The organization is not an attestor.
    error AttestorsNotAttestor(bytes32 organization);

    /// @notice The attestor's key did not sign this; a malformed signature has signer zero.
    error AttestorsWrongSigner(bytes32 organization, address signer, address key);

    /// @param registry Registry of the organizations, for good.
    constructor(IRegistry registry) {
        if (address(registry).code.length == 0) revert AttestorsNoRegistry(address(registry));
        REGISTRY = registry;
    }

    /// @dev Makes sure that enough attestors signed; all of the approvals must hold.
    /// @param digests What each of them signed, in the order of the approvals.
    function _requireAttested(bytes32[] memory digests, Approval[] calldata approvals)
        internal
        view
    {
        uint16 needed = REGISTRY.attestorThreshold();
        if (approvals.length < needed) revert AttestorsTooFew(approvals.length, needed);
        bytes32 previous = 0;
        for (uint256 i = 0; i < approvals.length; ++i) {
            bytes32 organization = approvals[i].organization;
            if (organization <= previous) revert AttestorsUnsorted(organization, previous);
            previous = organization;
            if (!REGISTRY.isAttestor(organization)) revert AttestorsNotAttestor(organization);
            // An attestor is a member, and a member has a key.
            address key = REGISTRY.keyOf(organization);
            (address signer,,) = ECDSA.tryRecoverCalldata(digests[i], approvals[i].signature);
            if (signer != key) revert AttestorsWrongSigner(organization, signer, key);
        }
    }
}
