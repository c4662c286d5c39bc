// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "./Attestors.sol";
import {RoundsState} from "./RoundsState.sol";

/// @title What attestors found when they replayed a round
/// @notice Enough of the registry's attestors sign, once, that a sealed round is what its updates
/// make of its parent, and what its adapter scores.
abstract contract Attestations is RoundsState, Attestors {
    bytes32 private constant _ATTESTATION = keccak256(
        "Attestation(bytes32 task,uint64 round,bytes32 organization,bytes32 updatesRoot,"
        "bytes32 adapter,bytes32 record,bytes32 scores)"
    );

    /// @notice A sealed round was attested.
    event RoundAttested(
        bytes32 indexed task, uint64 indexed round, bytes32 scores, bytes32[] organizations
    );

    /// @notice The round has been attested before.
    error AttestationsAlreadyAttested(bytes32 task, uint64 round, bytes32 scores);

    /// @notice Attests a sealed round; for anyone who brings enough signatures.
    /// @param task Task of the round.
    /// @param round Sealed round.
    /// @param scores Hash of the scores that all of them signed.
    /// @param approvals Signatures over each attestor's `Attestation`, by EIP-712, strictly
    /// ascending by organization; all of them must be valid.
    function attest(bytes32 task, uint64 round, bytes32 scores, Approval[] calldata approvals)
        external
    {
        StoredRound storage stored = _inPhase(task, round, Phase.Sealed);
        if (scores == 0) revert RoundsZeroValue("scores");
        if (stored.scores != 0) revert AttestationsAlreadyAttested(task, round, stored.scores);
        bytes32[] memory organizations = new bytes32[](approvals.length);
        bytes32[] memory digests = new bytes32[](approvals.length);
        for (uint256 i = 0; i < approvals.length; ++i) {
            organizations[i] = approvals[i].organization;
            digests[i] = attestationDigest(task, round, organizations[i], scores);
        }
        _requireAttested(digests, approvals);
        stored.scores = scores;
        emit RoundAttested(task, round, scores, organizations);
    }

    /// @notice What an attestor signs about a sealed round.
    /// @param task Task of the round.
    /// @param round Sealed round.
    /// @param organization The attestor.
    /// @param scores Hash of the scores that it found.
    function attestationDigest(bytes32 task, uint64 round, bytes32 organization, bytes32 scores)
        public
        view
        returns (bytes32)
    {
        StoredRound storage stored = _rounds[task][round];
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    _ATTESTATION,
                    task,
                    round,
                    organization,
                    stored.updatesRoot,
                    stored.adapterHash,
                    stored.record,
                    scores
                )
            )
        );
    }
}
