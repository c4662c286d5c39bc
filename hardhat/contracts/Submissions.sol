// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Attestors} from "./Attestors.sol";
import {RoundsState} from "./RoundsState.sol";

/// @title Updates that organizations put on the chain themselves
/// @notice An organization that cannot, or will not, rely on the coordinator to acknowledge its
/// update commits to it here while the round is open. What was committed to can be neither replaced
/// nor taken back, and the coordinator cannot claim that it was never told.
abstract contract Submissions is RoundsState, Attestors {
    /// @notice An organization's update for a round, as it signs it.
    /// @param task Task it is for.
    /// @param round Round it is for.
    /// @param organization Organization whose update it is.
    /// @param parentAdapter Adapter that it was trained from.
    /// @param terms Terms that it was trained under.
    /// @param commitment Commitment to the payload.
    /// @param numExamples Number of examples that the organization says it trained on.
    /// @param deadline Last second at which the update may be submitted.
    struct ModelUpdate {
        bytes32 task;
        uint64 round;
        bytes32 organization;
        bytes32 parentAdapter;
        bytes32 terms;
        bytes32 commitment;
        uint32 numExamples;
        uint64 deadline;
    }

    bytes32 private constant _MODEL_UPDATE = keccak256(
        "ModelUpdate(bytes32 task,uint64 round,bytes32 organization,bytes32 parentAdapter,"
        "bytes32 terms,bytes32 commitment,uint32 numExamples,uint64 deadline)"
    );

    mapping(
        bytes32 task => mapping(uint64 round => mapping(bytes32 organization => bytes32 digest))
    ) private _submissions;

    /// @notice An organization committed to its update for a round.
    event UpdateSubmitted(
        bytes32 indexed task, uint64 indexed round, bytes32 indexed organization, bytes32 digest
    );

    /// @notice The update was trained from another adapter than the round's parent.
    error SubmissionsWrongParent(
        bytes32 task, uint64 round, bytes32 parentAdapter, bytes32 expected
    );

    /// @notice The update was trained under other terms than the task's.
    error SubmissionsWrongTerms(bytes32 task, bytes32 terms, bytes32 expected);

    /// @notice An update commits to its payload.
    error SubmissionsZeroCommitment(bytes32 task, uint64 round, bytes32 organization);

    /// @notice The time until which the organization allowed the submission is over.
    error SubmissionsExpired(uint64 deadline, uint256 timestamp);

    /// @notice The registry has no key for this organization.
    error SubmissionsNoKey(bytes32 organization);

    /// @notice The organization's key neither sent nor signed this; a malformed signature has
    /// signer zero.
    error SubmissionsWrongSigner(bytes32 organization, address signer, address key);

    /// @notice The organization has already committed to an update for this round.
    error SubmissionsAlreadySubmitted(
        bytes32 task, uint64 round, bytes32 organization, bytes32 submitted, bytes32 digest
    );

    /// @notice Commits to an update; sent by the organization's key.
    function submitDirect(ModelUpdate calldata update) external {
        _requireKey(update.organization, msg.sender);
        _submit(update, updateDigest(update));
    }

    /// @notice Commits to an update as the organization signed it; for anyone.
    /// @param update The update.
    /// @param signature Signature of the organization's present key over the `ModelUpdate`, by
    /// EIP-712.
    function submitBySig(ModelUpdate calldata update, bytes calldata signature) external {
        bytes32 digest = updateDigest(update);
        // OpenZeppelin refuses the second form (high s) of each signature, and any odd length.
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        _requireKey(update.organization, signer);
        _submit(update, digest);
    }

    /// @notice Digest of the update that an organization committed to here; zero if it did not.
    function submissionOf(bytes32 task, uint64 round, bytes32 organization)
        public
        view
        returns (bytes32)
    {
        return _submissions[task][round][organization];
    }

    /// @notice What an organization signs for its update, and what a leaf of its round's tree
    /// names.
    function updateDigest(ModelUpdate calldata update) public view returns (bytes32) {
        // Every member of the struct takes one word, as EIP-712 encodes it too.
        return _hashTypedDataV4(keccak256(abi.encode(_MODEL_UPDATE, update)));
    }

    function _submit(ModelUpdate calldata update, bytes32 digest) private {
        (bytes32 task, uint64 round) = (update.task, update.round);
        StoredRound storage stored = _inPhase(task, round, Phase.Open);
        bytes32 parent = _adapterAfter(task, stored.parentRound);
        if (update.parentAdapter != parent) {
            revert SubmissionsWrongParent(task, round, update.parentAdapter, parent);
        }
        bytes32 terms = _tasks[task].terms;
        if (update.terms != terms) revert SubmissionsWrongTerms(task, update.terms, terms);
        bytes32 organization = update.organization;
        if (update.commitment == 0) revert SubmissionsZeroCommitment(task, round, organization);
        if (block.timestamp > update.deadline) {
            revert SubmissionsExpired(update.deadline, block.timestamp);
        }
        bytes32 submitted = _submissions[task][round][organization];
        if (submitted != 0) {
            revert SubmissionsAlreadySubmitted(task, round, organization, submitted, digest);
        }
        _submissions[task][round][organization] = digest;
        emit UpdateSubmitted(task, round, organization, digest);
    }

    function _requireKey(bytes32 organization, address signer) private view {
        address key = REGISTRY.keyOf(organization);
        if (key == address(0)) revert SubmissionsNoKey(organization);
        if (signer != key) revert SubmissionsWrongSigner(organization, signer, key);
    }
}
