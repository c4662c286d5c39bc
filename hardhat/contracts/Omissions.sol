// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Credits} from "./Credits.sol";
import {Submissions} from "./Submissions.sol";

/// @title Updates that a sealed round left out
/// @notice Whoever holds the coordinator's receipt for an update, or sees one that was submitted on
/// the chain, may challenge a sealed round to show the update under its root. A challenge that
/// nothing answers in time makes the round disputed, for good, and takes the task back to its last
/// final round.
/// @dev Every challenge of a task deposits the same bond, so that it need not be stored with each.
abstract contract Omissions is Submissions, Credits {
    /// @notice A challenge moves from None to Open and from there to one of the others.
    /// Answered: the update stands under the root. Unavailable: the coordinator said that it never
    /// had the payload; only a receipt opens such a challenge again. Upheld: nothing answered it,
    /// and its bond was given back.
    enum ChallengeState {
        None,
        Open,
        Answered,
        Unavailable,
        Upheld
    }

    /// @notice A challenge; all zero if there is none.
    /// @param challenger Account that deposited the bond.
    /// @param state What became of it.
    /// @param byReceipt Whether it rests on the coordinator's receipt; otherwise on a submission.
    struct Challenge {
        address challenger;
        ChallengeState state;
        bool byReceipt;
    }

    bytes32 private constant _RECEIPT = keccak256("Receipt(bytes32 update)");

    mapping(bytes32 task => mapping(uint64 round => mapping(bytes32 digest => Challenge))) private
        _challenges;

    /// @notice A sealed round was challenged to show an update under its root.
    event OmissionChallenged(
        bytes32 indexed task,
        uint64 indexed round,
        bytes32 indexed digest,
        bytes32 organization,
        address challenger,
        bool byReceipt
    );

    /// @notice A challenged update was shown to stand under the round's root.
    event ChallengeAnswered(
        bytes32 indexed task,
        uint64 indexed round,
        bytes32 indexed digest,
        uint32 index,
        uint16 verdict
    );

    /// @notice The coordinator said that it never had the payload of an organization's update.
    event UpdateUnavailable(
        bytes32 indexed task, uint64 indexed round, bytes32 indexed organization, bytes32 digest
    );

    /// @notice A sealed round was left with challenges that nothing had answered.
    event RoundDisputed(bytes32 indexed task, uint64 indexed round, uint64 openChallenges);

    /// @notice A dispute took a task back to `headRound`; all rounds after it, up to
    /// `branchStart`, that are not disputed themselves are orphaned.
    event BranchAbandoned(bytes32 indexed task, uint64 headRound, uint64 branchStart);

    /// @notice The bond of a challenge that nothing answered was given back.
    event BondRefunded(
        bytes32 indexed task, uint64 indexed round, bytes32 indexed digest, address challenger
    );

    /// @notice A challenge deposits exactly the task's bond.
    error OmissionsWrongBond(uint256 value, uint96 bond);

    /// @notice The time for the call is over.
    error OmissionsTooLate(bytes32 task, uint64 round, uint256 end, uint256 timestamp);

    /// @notice The time in which challenges may be answered is not over.
    error OmissionsTooEarly(bytes32 task, uint64 round, uint256 end, uint256 timestamp);

    /// @notice The coordinator did not sign the receipt; a malformed one has signer zero.
    error OmissionsWrongReceipt(bytes32 digest, address signer, address coordinator);

    /// @notice The organization did not submit this update on the chain.
    error OmissionsNotSubmitted(
        bytes32 task, uint64 round, bytes32 organization, bytes32 submitted, bytes32 digest
    );

    /// @notice The omission has been challenged before, on no lesser ground.
    error OmissionsAlreadyChallenged(
        bytes32 task, uint64 round, bytes32 digest, ChallengeState state
    );

    /// @notice There is no such challenge, or it is no longer open.
    error OmissionsNotOpen(bytes32 task, uint64 round, bytes32 digest, ChallengeState state);

    /// @notice The update is not shown to stand under the round's root.
    error OmissionsNotIncluded(
        bytes32 task, uint64 round, bytes32 digest, uint32 index, uint16 verdict
    );

    /// @notice By its receipt, the coordinator had the payload.
    error OmissionsReceiptGiven(bytes32 task, uint64 round, bytes32 digest);

    /// @notice No challenge of the round is open.
    error OmissionsNoneOpen(bytes32 task, uint64 round);

    /// @notice Challenges a sealed round to show an update under its root; for anyone, with the
    /// task's bond.
    /// @dev A receipt says more than a submission: that the payload was there. So a challenge
    /// without one gives way to a challenge with one, or the coordinator could file the first
    /// itself, declare the payload unavailable and be safe from its own receipt.
    /// @param update The update that was left out.
    /// @param receipt Signature of the task's coordinator over the `Receipt` for the update, by
    /// EIP-712; empty if the organization submitted the update on the chain.
    function challengeOmission(ModelUpdate calldata update, bytes calldata receipt)
        external
        payable
    {
        (bytes32 task, uint64 round) = (update.task, update.round);
        StoredRound storage stored = _inPhase(task, round, Phase.Sealed);
        uint96 bond = _tasks[task].bond;
        if (msg.value != bond) revert OmissionsWrongBond(msg.value, bond);
        _requireBefore(task, round, _challengesEnd(_tasks[task], stored));
        bytes32 digest = updateDigest(update);
        bool byReceipt = receipt.length != 0;
        if (byReceipt) _requireReceipt(task, digest, receipt);
        else _requireSubmitted(task, round, update.organization, digest);

        Challenge memory previous = _challenges[task][round][digest];
        bool outranks = byReceipt && !previous.byReceipt;
        _challenges[task][round][digest] = Challenge(msg.sender, ChallengeState.Open, byReceipt);
        if (previous.state == ChallengeState.Open && outranks) {
            _credit(previous.challenger, bond);
        } else if (
            previous.state == ChallengeState.None
                || (previous.state == ChallengeState.Unavailable && outranks)
        ) {
            ++stored.openChallenges;
        } else {
            revert OmissionsAlreadyChallenged(task, round, digest, previous.state);
        }
        emit OmissionChallenged(task, round, digest, update.organization, msg.sender, byReceipt);
    }

    /// @notice Shows a challenged update under the round's root; for anyone. The bond goes to the
    /// coordinator.
    /// @param task Task of the round.
    /// @param round Challenged round.
    /// @param digest Digest of the update (see `updateDigest`).
    /// @param index Position of its leaf.
    /// @param verdict 0 for an accepted update, otherwise the code of the rejection.
    /// @param proof Sibling hashes from the leaf up to the root.
    function answerChallenge(
        bytes32 task,
        uint64 round,
        bytes32 digest,
        uint32 index,
        uint16 verdict,
        bytes32[] calldata proof
    ) external {
        StoredTask storage own = _tasks[task];
        _close(task, round, digest, ChallengeState.Answered);
        if (!isIncluded(task, round, index, verdict, digest, proof)) {
            revert OmissionsNotIncluded(task, round, digest, index, verdict);
        }
        _credit(own.coordinator, own.bond);
        emit ChallengeAnswered(task, round, digest, index, verdict);
    }

    /// @notice Declares that the coordinator never had the payload of the update that an
    /// organization submitted on the chain. The bond goes back to the challenger.
    /// @param task Task, opened by the caller.
    /// @param round Challenged round.
    /// @param organization Organization whose submission is challenged.
    function answerUnavailable(bytes32 task, uint64 round, bytes32 organization) external {
        StoredTask storage own = _onlyCoordinator(task);
        bytes32 digest = submissionOf(task, round, organization);
        Challenge memory challenge = _close(task, round, digest, ChallengeState.Unavailable);
        if (challenge.byReceipt) revert OmissionsReceiptGiven(task, round, digest);
        _credit(challenge.challenger, own.bond);
        emit UpdateUnavailable(task, round, organization, digest);
    }

    /// @notice Ends a sealed round that has not answered all of its challenges in time; for anyone.
    /// If the task's current branch runs through it, the next round starts from the last final
    /// one, and all rounds that were neither final nor voided are orphaned.
    /// @param task Task of the round.
    /// @param round Round with open challenges.
    function dispute(bytes32 task, uint64 round) external {
        StoredRound storage stored = _inPhase(task, round, Phase.Sealed);
        StoredTask storage own = _tasks[task];
        uint48 unanswered = stored.openChallenges;
        if (unanswered == 0) revert OmissionsNoneOpen(task, round);
        uint256 end = _answersEnd(own, stored);
        if (block.timestamp <= end) revert OmissionsTooEarly(task, round, end, block.timestamp);
        stored.phase = Phase.Disputed;
        emit RoundDisputed(task, round, unanswered);
        // Whatever was left behind by an earlier dispute has no bearing on the branch after it.
        if (round <= own.branchStart) return;
        (uint32 head, uint32 start) = (own.lastFinalRound, own.lastRound);
        own.headRound = head;
        own.branchStart = start;
        emit BranchAbandoned(task, head, start);
    }

    /// @notice Credits the challenger with the bond of a challenge that nothing answered; for
    /// anyone.
    /// @param task Task of the round.
    /// @param round Disputed round.
    /// @param digest Digest of the challenged update.
    function refundBond(bytes32 task, uint64 round, bytes32 digest) external {
        _inPhase(task, round, Phase.Disputed);
        Challenge storage challenge = _openChallenge(task, round, digest);
        challenge.state = ChallengeState.Upheld;
        address challenger = challenge.challenger;
        _credit(challenger, _tasks[task].bond);
        emit BondRefunded(task, round, digest, challenger);
    }

    /// @notice The challenge of a round over an update; all zero if there is none.
    function challengeOf(bytes32 task, uint64 round, bytes32 digest)
        external
        view
        returns (Challenge memory)
    {
        return _challenges[task][round][digest];
    }

    /// @notice What the coordinator signs when it receives the payload of an update.
    /// @param digest Digest of the update (see `updateDigest`).
    function receiptDigest(bytes32 digest) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(_RECEIPT, digest)));
    }

    /// @dev Ends an open challenge with an answer. While the time for answers runs, a round with an
    /// open challenge is sealed, neither disputed nor final.
    function _close(bytes32 task, uint64 round, bytes32 digest, ChallengeState state)
        private
        returns (Challenge memory)
    {
        Challenge storage challenge = _openChallenge(task, round, digest);
        StoredRound storage stored = _rounds[task][round];
        _requireBefore(task, round, _answersEnd(_tasks[task], stored));
        challenge.state = state;
        --stored.openChallenges;
        return challenge;
    }

    function _openChallenge(bytes32 task, uint64 round, bytes32 digest)
        private
        view
        returns (Challenge storage challenge)
    {
        challenge = _challenges[task][round][digest];
        if (challenge.state != ChallengeState.Open) {
            revert OmissionsNotOpen(task, round, digest, challenge.state);
        }
    }

    function _requireReceipt(bytes32 task, bytes32 digest, bytes calldata receipt) private view {
        (address signer,,) = ECDSA.tryRecoverCalldata(receiptDigest(digest), receipt);
        address coordinator = _tasks[task].coordinator;
        if (signer != coordinator) revert OmissionsWrongReceipt(digest, signer, coordinator);
    }

    function _requireSubmitted(bytes32 task, uint64 round, bytes32 organization, bytes32 digest)
        private
        view
    {
        bytes32 submitted = submissionOf(task, round, organization);
        if (submitted != digest) {
            revert OmissionsNotSubmitted(task, round, organization, submitted, digest);
        }
    }

    function _requireBefore(bytes32 task, uint64 round, uint256 end) private view {
        if (block.timestamp > end) revert OmissionsTooLate(task, round, end, block.timestamp);
    }

    /// @dev Last second at which challenges of a sealed round may be answered.
    function _answersEnd(StoredTask storage task, StoredRound storage round)
        private
        view
        returns (uint256)
    {
        return _challengesEnd(task, round) + task.responseWindow;
    }
}
