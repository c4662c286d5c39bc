// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {Attestations} from "./Attestations.sol";
import {Attestors} from "./Attestors.sol";
import {COORDINATOR, IRegistry, PAUSER} from "./IRegistry.sol";
import {Omissions} from "./Omissions.sol";

/// @title Rounds of federated fine-tuning tasks
/// @notice Whoever opens a task is its coordinator. Each round of the task is opened on the adapter
/// that the last sealed round produced, and ends either sealed, with the Merkle root over every
/// organization's update and the hash of the new adapter, or void, leaving the adapter as it was.
/// A sealed round becomes final once it is attested and the time to challenge it has passed without
/// an open challenge; the final rounds form one chain from the genesis adapter. Nothing written
/// here is ever changed or removed afterwards.
/// @dev A seal costs the same whatever the number of organizations: three fresh words beside the
/// round's header, which `openRound` has already paid for.
contract Rounds is Omissions, Attestations {
    bool private _paused;

    /// @notice A task was opened.
    event TaskOpened(
        bytes32 indexed task,
        address indexed coordinator,
        bytes32 terms,
        bytes32 genesisAdapter,
        uint32 challengeWindow,
        uint32 responseWindow,
        uint96 bond
    );

    /// @notice A round was opened on `parentAdapter`, which `parentRound` produced; 0 stands for
    /// the genesis adapter.
    event RoundOpened(
        bytes32 indexed task, uint64 indexed round, uint64 parentRound, bytes32 parentAdapter
    );

    /// @notice A round was sealed.
    event RoundSealed(
        bytes32 indexed task,
        uint64 indexed round,
        bytes32 updatesRoot,
        uint32 leafCount,
        bytes32 adapterHash,
        bytes32 manifestHash,
        bytes32 rewardsRoot,
        uint256 rewardsTotal
    );

    /// @notice A round was ended without a result.
    event RoundVoided(bytes32 indexed task, uint64 indexed round);

    /// @notice A round became final.
    event RoundFinalized(bytes32 indexed task, uint64 indexed round);

    /// @notice No more rounds can be opened until `Unpaused`.
    event Paused(address indexed account);

    /// @notice Rounds can be opened again.
    event Unpaused(address indexed account);

    /// @notice The caller does not hold the role in the registry.
    error RoundsMissingRole(bytes32 role, address account);

    /// @notice Opening rounds is paused already, or is not paused.
    error RoundsPauseUnchanged(bool paused);

    /// @notice Opening rounds is paused.
    error RoundsArePaused();

    /// @notice This coordinator has already opened a task with the same terms and genesis adapter.
    error RoundsTaskExists(bytes32 task);

    /// @notice Rounds are opened one after the other, starting with 1.
    error RoundsUnexpectedRound(bytes32 task, uint64 round, uint64 expected);

    /// @notice The round before has neither been sealed nor voided.
    error RoundsPreviousStillOpen(bytes32 task, uint64 round, uint64 previous);

    /// @notice The parent is not the last adapter of the task's current branch.
    error RoundsParentMismatch(bytes32 task, uint64 round, bytes32 parent, bytes32 expected);

    /// @notice The root is zero exactly when there are no leaves.
    error RoundsLeafCountMismatch(
        bytes32 task, uint64 round, uint32 leafCount, bytes32 updatesRoot
    );

    /// @notice The root of the rewards is zero exactly when their total is.
    error RoundsRewardsMismatch(
        bytes32 task, uint64 round, bytes32 rewardsRoot, uint256 rewardsTotal
    );

    /// @notice A dispute has left the round behind, with all others up to `branchStart`.
    error RoundsOrphaned(bytes32 task, uint64 round, uint64 branchStart);

    /// @notice The attestors have not signed the round.
    error RoundsNotAttested(bytes32 task, uint64 round);

    /// @notice The time in which omissions may be challenged is not over.
    error RoundsStillChallengeable(bytes32 task, uint64 round, uint256 end, uint256 timestamp);

    /// @notice Challenges of the round are open.
    error RoundsChallenged(bytes32 task, uint64 round, uint64 openChallenges);

    /// @notice The parent of the round is not the last final one.
    error RoundsParentNotFinal(
        bytes32 task, uint64 round, uint64 parentRound, uint64 lastFinalRound
    );

    /// @param registry Registry of organizations, attestors and roles, for good.
    constructor(IRegistry registry) EIP712("Foedus Rounds", "1") Attestors(registry) {}

    /// @notice Keeps rounds from being opened, and nothing else; for holders of `PAUSER`.
    function pause() external {
        _setPaused(true);
        emit Paused(msg.sender);
    }

    /// @notice Lets rounds be opened again; for holders of `PAUSER`.
    function unpause() external {
        _setPaused(false);
        emit Unpaused(msg.sender);
    }

    /// @notice Opens a task with the caller, who must hold `COORDINATOR`, as its coordinator.
    /// @param terms Hash of the terms. They should name the run, for the same terms and genesis
    /// adapter make the same task, which can be opened only once.
    /// @param genesisAdapter Hash of the adapter that round 1 starts from.
    /// @param challengeWindow Seconds after a seal in which omissions may be challenged.
    /// @param responseWindow Seconds after those in which challenges may still be answered.
    /// @param bond Wei that a challenge deposits.
    /// @return task Id of the task, as `taskId` computes it.
    function openTask(
        bytes32 terms,
        bytes32 genesisAdapter,
        uint32 challengeWindow,
        uint32 responseWindow,
        uint96 bond
    ) external returns (bytes32 task) {
        _requireRole(COORDINATOR);
        if (terms == 0) revert RoundsZeroValue("terms");
        if (genesisAdapter == 0) revert RoundsZeroValue("genesisAdapter");
        if (challengeWindow == 0) revert RoundsZeroValue("challengeWindow");
        if (responseWindow == 0) revert RoundsZeroValue("responseWindow");
        task = taskId(msg.sender, terms, genesisAdapter);
        StoredTask storage stored = _tasks[task];
        if (stored.coordinator != address(0)) revert RoundsTaskExists(task);
        stored.coordinator = msg.sender;
        stored.challengeWindow = challengeWindow;
        stored.responseWindow = responseWindow;
        stored.bond = bond;
        stored.openedBlock = uint64(block.number);
        stored.terms = terms;
        stored.genesisAdapter = genesisAdapter;
        emit TaskOpened(
            task, msg.sender, terms, genesisAdapter, challengeWindow, responseWindow, bond
        );
    }

    /// @notice Opens the next round of a task.
    /// @param task Task, opened by the caller, who must still hold `COORDINATOR`.
    /// @param round Number of the round: one more than the last, starting with 1.
    /// @param parentAdapter Adapter of the task's head: of the last sealed round of the current
    /// branch, or the genesis adapter.
    function openRound(bytes32 task, uint64 round, bytes32 parentAdapter) external {
        StoredTask storage stored = _onlyCoordinator(task);
        _requireRole(COORDINATOR);
        if (_paused) revert RoundsArePaused();
        uint32 previous = stored.lastRound;
        uint32 expected = previous + 1;
        if (round != expected) revert RoundsUnexpectedRound(task, round, expected);
        if (_rounds[task][previous].phase == Phase.Open) {
            revert RoundsPreviousStillOpen(task, round, previous);
        }
        uint32 parentRound = stored.headRound;
        bytes32 head = _adapterAfter(task, parentRound);
        if (parentAdapter != head) revert RoundsParentMismatch(task, round, parentAdapter, head);
        stored.lastRound = expected;
        StoredRound storage opened = _rounds[task][round];
        opened.phase = Phase.Open;
        opened.parentRound = parentRound;
        opened.openedBlock = uint48(block.number);
        emit RoundOpened(task, round, parentRound, parentAdapter);
    }

    /// @notice Ends an open round with its result, once and for all.
    /// @dev For the task's coordinator even if it no longer holds the role, so that what
    /// organizations have trained for the round is not lost.
    /// @param task Task, opened by the caller.
    /// @param round Number of the open round.
    /// @param updatesRoot Merkle root over the leaves (see `leafHash`); zero without leaves.
    /// @param leafCount Number of leaves under `updatesRoot`.
    /// @param adapterHash Hash of the new global adapter.
    /// @param manifestHash Hash of the round's manifest.
    /// @param rewardsRoot Merkle root over the organizations' rewards so far; zero without rewards.
    /// @param rewardsTotal Sum of the rewards under `rewardsRoot`, in wei.
    function seal(
        bytes32 task,
        uint64 round,
        bytes32 updatesRoot,
        uint32 leafCount,
        bytes32 adapterHash,
        bytes32 manifestHash,
        bytes32 rewardsRoot,
        uint256 rewardsTotal
    ) external {
        if ((leafCount == 0) != (updatesRoot == 0)) {
            revert RoundsLeafCountMismatch(task, round, leafCount, updatesRoot);
        }
        if (adapterHash == 0) revert RoundsZeroValue("adapterHash");
        if (manifestHash == 0) revert RoundsZeroValue("manifestHash");
        if ((rewardsRoot == 0) != (rewardsTotal == 0)) {
            revert RoundsRewardsMismatch(task, round, rewardsRoot, rewardsTotal);
        }
        StoredTask storage stored = _onlyCoordinator(task);
        StoredRound storage closed = _end(task, round, Phase.Sealed);
        if (round <= stored.branchStart) revert RoundsOrphaned(task, round, stored.branchStart);
        // Only the last round of a task is ever open.
        stored.headRound = stored.lastRound;
        closed.leafCount = leafCount;
        closed.updatesRoot = updatesRoot;
        closed.adapterHash = adapterHash;
        closed.record = recordDigest(manifestHash, rewardsRoot, rewardsTotal);
        emit RoundSealed(
            task,
            round,
            updatesRoot,
            leafCount,
            adapterHash,
            manifestHash,
            rewardsRoot,
            rewardsTotal
        );
    }

    /// @notice Ends an open round with nothing: the next round starts from the task's head again.
    /// @param task Task, opened by the caller.
    /// @param round Number of the open round.
    function voidRound(bytes32 task, uint64 round) external {
        _onlyCoordinator(task);
        _end(task, round, Phase.Void);
        emit RoundVoided(task, round);
    }

    /// @notice Makes a sealed round final, for good; for anyone.
    /// @dev The rule on orphans is needed beside that on parents: a round before a disputed one may
    /// have a final parent, and if it became final after the task had started again from that same
    /// parent, nothing built on the new start ever could.
    /// @param task Task of the round.
    /// @param round Attested round, its parent the last final one.
    function finalize(bytes32 task, uint64 round) external {
        StoredRound storage stored = _inPhase(task, round, Phase.Sealed);
        StoredTask storage own = _tasks[task];
        if (stored.scores == 0) revert RoundsNotAttested(task, round);
        uint256 end = _challengesEnd(own, stored);
        if (block.timestamp <= end) {
            revert RoundsStillChallengeable(task, round, end, block.timestamp);
        }
        if (stored.openChallenges != 0) {
            revert RoundsChallenged(task, round, stored.openChallenges);
        }
        if (round <= own.branchStart) revert RoundsOrphaned(task, round, own.branchStart);
        if (stored.parentRound != own.lastFinalRound) {
            revert RoundsParentNotFinal(task, round, stored.parentRound, own.lastFinalRound);
        }
        stored.phase = Phase.Final;
        own.lastFinalRound = uint32(round);
        emit RoundFinalized(task, round);
    }

    /// @notice Whether opening rounds is paused.
    function paused() external view returns (bool) {
        return _paused;
    }

    /// @notice Id of the task that `coordinator` opens here with these terms.
    function taskId(address coordinator, bytes32 terms, bytes32 genesisAdapter)
        public
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encode(block.chainid, address(this), coordinator, terms, genesisAdapter)
        );
    }

    /// @dev Moves a round from Open to `phase`.
    function _end(bytes32 task, uint64 round, Phase phase)
        private
        returns (StoredRound storage stored)
    {
        stored = _inPhase(task, round, Phase.Open);
        stored.phase = phase;
        stored.closedBlock = uint48(block.number);
        stored.closedAt = uint40(block.timestamp);
    }

    function _setPaused(bool paused_) private {
        _requireRole(PAUSER);
        if (_paused == paused_) revert RoundsPauseUnchanged(paused_);
        _paused = paused_;
    }

    function _requireRole(bytes32 role) private view {
        if (!REGISTRY.hasRole(role, msg.sender)) revert RoundsMissingRole(role, msg.sender);
    }
}
