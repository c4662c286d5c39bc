// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRounds} from "./IRounds.sol";
import {LeafHash} from "./LeafHash.sol";

/// @title What is stored about tasks and rounds, and how to read it
/// @dev Numbers of rounds are stored in 32 bits: one round a second would use them up in 136 years.
/// So all that opening and sealing a round needs of its task is one word. The parent of a round is
/// stored as the number of the round that produced it, not as another word.
abstract contract RoundsState is IRounds {
    /// @notice A task as readers see it.
    /// @param coordinator Account that opened the task; the only one that may open and end rounds.
    /// @param terms Hash of the task's terms.
    /// @param genesisAdapter Hash of the adapter that round 1 starts from.
    /// @param challengeWindow Seconds after a seal in which omissions may be challenged.
    /// @param responseWindow Seconds after those in which challenges may still be answered.
    /// @param bond Wei that a challenge deposits.
    /// @param lastRound Highest round opened so far; 0 before the first.
    /// @param headRound Last sealed round of the current branch; 0 stands for the genesis adapter.
    /// @param lastFinalRound Highest final round; 0 before the first.
    /// @param branchStart Rounds up to this one that are neither final nor disputed are orphaned: a
    /// dispute left them behind. 0 before the first dispute.
    /// @param headAdapter Adapter that the next round must name as its parent.
    /// @param openedBlock Block in which the task was opened.
    struct Task {
        address coordinator;
        bytes32 terms;
        bytes32 genesisAdapter;
        uint32 challengeWindow;
        uint32 responseWindow;
        uint96 bond;
        uint64 lastRound;
        uint64 headRound;
        uint64 lastFinalRound;
        uint64 branchStart;
        bytes32 headAdapter;
        uint64 openedBlock;
    }

    /// @notice A round as readers see it.
    /// @param phase Phase the round is in.
    /// @param parentRound Round whose adapter it was opened on; 0 stands for the genesis adapter.
    /// @param parentAdapter That adapter; zero for a round never opened.
    /// @param leafCount Number of leaves under `updatesRoot`.
    /// @param updatesRoot Merkle root over the round's leaves; zero for a round without leaves.
    /// @param adapterHash Hash of the adapter that the round produced.
    /// @param record Digest of its manifest and its rewards (see `recordDigest`).
    /// @param scores Hash of the scores that the attestors signed; zero before their attestation.
    /// @param openedBlock Block in which the round was opened.
    /// @param closedBlock Block in which the round was sealed or voided.
    /// @param closedAt Time of that block.
    /// @param openChallenges Number of challenges that nothing has answered.
    struct Round {
        Phase phase;
        uint64 parentRound;
        bytes32 parentAdapter;
        uint32 leafCount;
        bytes32 updatesRoot;
        bytes32 adapterHash;
        bytes32 record;
        bytes32 scores;
        uint64 openedBlock;
        uint64 closedBlock;
        uint64 closedAt;
        uint64 openChallenges;
    }

    /// @dev First word: all that opening and sealing a round needs.
    struct StoredTask {
        address coordinator;
        uint32 lastRound;
        uint32 headRound;
        uint32 branchStart;
        // Second word.
        uint32 lastFinalRound;
        uint32 challengeWindow;
        uint32 responseWindow;
        uint96 bond;
        uint64 openedBlock;
        bytes32 terms;
        bytes32 genesisAdapter;
    }

    /// @dev First word: the header, written when the round opens and updated ever after. It counts
    /// challenges in 48 bits, so that nobody can file so many that the next one overflows.
    struct StoredRound {
        Phase phase;
        uint32 leafCount;
        uint32 parentRound;
        uint48 openedBlock;
        uint48 closedBlock;
        uint40 closedAt;
        uint48 openChallenges;
        bytes32 updatesRoot;
        bytes32 adapterHash;
        bytes32 record;
        bytes32 scores;
    }

    mapping(bytes32 task => StoredTask) internal _tasks;
    mapping(bytes32 task => mapping(uint64 round => StoredRound)) internal _rounds;

    /// @notice A hash, or a number of seconds, that must be given was zero.
    error RoundsZeroValue(string field);

    /// @notice No task has this id.
    error RoundsUnknownTask(bytes32 task);

    /// @notice The caller did not open the task.
    error RoundsNotCoordinator(bytes32 task, address caller, address coordinator);

    /// @notice The round is not in the phase that the call needs.
    error RoundsUnexpectedPhase(bytes32 task, uint64 round, Phase current, Phase expected);

    /// @notice The task with this id; reverts where there is none.
    function getTask(bytes32 task) external view returns (Task memory) {
        StoredTask storage stored = _knownTask(task);
        return Task({
            coordinator: stored.coordinator,
            terms: stored.terms,
            genesisAdapter: stored.genesisAdapter,
            challengeWindow: stored.challengeWindow,
            responseWindow: stored.responseWindow,
            bond: stored.bond,
            lastRound: stored.lastRound,
            headRound: stored.headRound,
            lastFinalRound: stored.lastFinalRound,
            branchStart: stored.branchStart,
            headAdapter: _adapterAfter(task, stored.headRound),
            openedBlock: stored.openedBlock
        });
    }

    /// @notice A round of a task; its phase is `None`, and all else zero, if it was never opened.
    function getRound(bytes32 task, uint64 round) external view returns (Round memory) {
        _knownTask(task);
        StoredRound storage stored = _rounds[task][round];
        bool known = stored.phase != Phase.None;
        return Round({
            phase: stored.phase,
            parentRound: stored.parentRound,
            parentAdapter: known ? _adapterAfter(task, stored.parentRound) : bytes32(0),
            leafCount: stored.leafCount,
            updatesRoot: stored.updatesRoot,
            adapterHash: stored.adapterHash,
            record: stored.record,
            scores: stored.scores,
            openedBlock: stored.openedBlock,
            closedBlock: stored.closedBlock,
            closedAt: stored.closedAt,
            openChallenges: stored.openChallenges
        });
    }

    /// @inheritdoc IRounds
    function phaseOf(bytes32 task, uint64 round) external view returns (Phase) {
        return _rounds[task][round].phase;
    }

    /// @inheritdoc IRounds
    function recordOf(bytes32 task, uint64 round) external view returns (bytes32) {
        return _rounds[task][round].record;
    }

    /// @inheritdoc IRounds
    function coordinatorOf(bytes32 task) external view returns (address) {
        return _tasks[task].coordinator;
    }

    /// @notice Whether a leaf stands under the sealed root of its round.
    /// @param task Task of the leaf.
    /// @param round Round of the leaf.
    /// @param index Position of the leaf, below the round's `leafCount`.
    /// @param verdict 0 for an accepted update, otherwise the code of the rejection.
    /// @param digest Digest of the update (see `updateDigest`).
    /// @param proof Sibling hashes from the leaf up to the root.
    function isIncluded(
        bytes32 task,
        uint64 round,
        uint32 index,
        uint16 verdict,
        bytes32 digest,
        bytes32[] calldata proof
    ) public view returns (bool) {
        StoredRound storage stored = _rounds[task][round];
        // A round that was never sealed has no leaves.
        if (index >= stored.leafCount) return false;
        return LeafHash.verify(stored.updatesRoot, leafHash(digest, index, verdict), proof);
    }

    /// @notice Hash of one leaf of a round's tree (see `LeafHash`).
    function leafHash(bytes32 digest, uint32 index, uint16 verdict) public pure returns (bytes32) {
        return LeafHash.hash(digest, index, verdict);
    }

    /// @inheritdoc IRounds
    function recordDigest(bytes32 manifestHash, bytes32 rewardsRoot, uint256 rewardsTotal)
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(manifestHash, rewardsRoot, rewardsTotal));
    }

    /// @dev Adapter that the given sealed round produced; round 0 stands for the genesis adapter.
    function _adapterAfter(bytes32 task, uint64 round) internal view returns (bytes32) {
        return round == 0 ? _tasks[task].genesisAdapter : _rounds[task][round].adapterHash;
    }

    function _knownTask(bytes32 task) internal view returns (StoredTask storage stored) {
        stored = _tasks[task];
        if (stored.coordinator == address(0)) revert RoundsUnknownTask(task);
    }

    function _onlyCoordinator(bytes32 task) internal view returns (StoredTask storage stored) {
        stored = _knownTask(task);
        if (stored.coordinator != msg.sender) {
            revert RoundsNotCoordinator(task, msg.sender, stored.coordinator);
        }
    }

    /// @dev Only rounds of known tasks are ever in any phase but None.
    function _inPhase(bytes32 task, uint64 round, Phase expected)
        internal
        view
        returns (StoredRound storage stored)
    {
        stored = _rounds[task][round];
        if (stored.phase != expected) {
            revert RoundsUnexpectedPhase(task, round, stored.phase, expected);
        }
    }

    /// @dev Last second at which omissions from a sealed round may be challenged.
    function _challengesEnd(StoredTask storage task, StoredRound storage round)
        internal
        view
        returns (uint256)
    {
        return uint256(round.closedAt) + task.challengeWindow;
    }
}
