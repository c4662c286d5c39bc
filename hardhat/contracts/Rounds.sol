// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

/// @title Rounds of federated fine-tuning tasks
/// @notice Whoever opens a task is its coordinator. Each round of the task is opened on the adapter
/// that the last sealed round produced, and ends either sealed, with the Merkle root over every
/// organization's update and the hash of the new adapter, or void, leaving the adapter as it was.
/// Nothing written here is ever changed or removed afterwards.
/// @dev A seal costs the same whatever the number of organizations: three fresh words beside the
/// round's header, which `openRound` has already paid for. The parent of a round is stored as the
/// number of the round that produced it, six bytes instead of a word.
contract Rounds {
    /// @notice A round's phase only ever moves forward: None, Open, then Sealed or Void.
    enum Phase {
        None,
        Open,
        Sealed,
        Void
    }

    /// @notice A task as readers see it.
    /// @param coordinator Account that opened the task; the only one that may open and end rounds.
    /// @param terms Hash of the task's terms.
    /// @param genesisAdapter Hash of the adapter that round 1 starts from.
    /// @param lastRound Highest round opened so far; 0 before the first.
    /// @param lastSealedRound Highest round sealed so far; 0 before the first.
    /// @param headAdapter Adapter that the next round must name as its parent.
    /// @param openedBlock Block in which the task was opened.
    struct Task {
        address coordinator;
        bytes32 terms;
        bytes32 genesisAdapter;
        uint64 lastRound;
        uint64 lastSealedRound;
        bytes32 headAdapter;
        uint64 openedBlock;
    }

    /// @notice A round as readers see it.
    /// @param phase Phase the round is in.
    /// @param parentAdapter Adapter the round was opened on; zero for a round never opened.
    /// @param leafCount Number of leaves under `updatesRoot`.
    /// @param updatesRoot Merkle root over the round's leaves; zero for a round without leaves.
    /// @param manifestHash Hash of the round's manifest.
    /// @param adapterHash Hash of the adapter that the round produced.
    /// @param openedBlock Block in which the round was opened.
    /// @param closedBlock Block in which the round was sealed or voided.
    struct Round {
        Phase phase;
        bytes32 parentAdapter;
        uint32 leafCount;
        bytes32 updatesRoot;
        bytes32 manifestHash;
        bytes32 adapterHash;
        uint64 openedBlock;
        uint64 closedBlock;
    }

    /// @dev First word: coordinator and counters, all that a seal touches of its task.
    struct StoredTask {
        address coordinator;
        uint48 lastRound;
        uint48 lastSealedRound;
        bytes32 terms;
        bytes32 genesisAdapter;
        uint64 openedBlock;
    }

    /// @dev First word: the header, written when the round opens and updated when it ends.
    struct StoredRound {
        Phase phase;
        uint32 leafCount;
        uint48 parentRound;
        uint48 openedBlock;
        uint48 closedBlock;
        bytes32 updatesRoot;
        bytes32 manifestHash;
        bytes32 adapterHash;
    }

    /// @dev A tree of at most 2**32 leaves is no deeper than this.
    uint256 private constant _MAX_PROOF_LENGTH = 32;

    mapping(bytes32 task => StoredTask) private _tasks;
    mapping(bytes32 task => mapping(uint64 round => StoredRound)) private _rounds;

    /// @notice A task was opened.
    event TaskOpened(
        bytes32 indexed task, address indexed coordinator, bytes32 terms, bytes32 genesisAdapter
    );

    /// @notice A round was opened on `parentAdapter`.
    event RoundOpened(bytes32 indexed task, uint64 indexed round, bytes32 parentAdapter);

    /// @notice A round was sealed.
    event RoundSealed(
        bytes32 indexed task,
        uint64 indexed round,
        bytes32 updatesRoot,
        uint32 leafCount,
        bytes32 manifestHash,
        bytes32 adapterHash
    );

    /// @notice A round was ended without a result.
    event RoundVoided(bytes32 indexed task, uint64 indexed round);

    /// @notice A hash that must be given was zero.
    error RoundsZeroHash(string field);

    /// @notice No task has this id.
    error RoundsUnknownTask(bytes32 task);

    /// @notice This coordinator has already opened a task with the same terms and genesis adapter.
    error RoundsTaskExists(bytes32 task);

    /// @notice The caller did not open the task.
    error RoundsNotCoordinator(bytes32 task, address caller, address coordinator);

    /// @notice Rounds are opened one after the other, starting with 1.
    error RoundsUnexpectedRound(bytes32 task, uint64 round, uint64 expected);

    /// @notice The round is not in the phase that the call needs.
    error RoundsUnexpectedPhase(bytes32 task, uint64 round, Phase current, Phase expected);

    /// @notice The round before has neither been sealed nor voided.
    error RoundsPreviousStillOpen(bytes32 task, uint64 round, uint64 previous);

    /// @notice The parent is not the last sealed adapter of the task.
    error RoundsParentMismatch(bytes32 task, uint64 round, bytes32 parent, bytes32 expected);

    /// @notice The root is zero exactly when there are no leaves.
    error RoundsLeafCountMismatch(
        bytes32 task, uint64 round, uint32 leafCount, bytes32 updatesRoot
    );

    /// @notice Opens a task with the caller as its coordinator.
    /// @param terms Hash of the terms. They should name the run, for the same terms and genesis
    /// adapter make the same task, which can be opened only once.
    /// @param genesisAdapter Hash of the adapter that round 1 starts from.
    /// @return task Id of the task, as `taskId` computes it.
    function openTask(bytes32 terms, bytes32 genesisAdapter) external returns (bytes32 task) {
        if (terms == 0) revert RoundsZeroHash("terms");
        if (genesisAdapter == 0) revert RoundsZeroHash("genesisAdapter");
        task = taskId(msg.sender, terms, genesisAdapter);
        StoredTask storage stored = _tasks[task];
        if (stored.coordinator != address(0)) revert RoundsTaskExists(task);
        stored.coordinator = msg.sender;
        stored.terms = terms;
        stored.genesisAdapter = genesisAdapter;
        stored.openedBlock = uint64(block.number);
        emit TaskOpened(task, msg.sender, terms, genesisAdapter);
    }

    /// @notice Opens the next round of a task.
    /// @param task Task, opened by the caller.
    /// @param round Number of the round: one more than the last, starting with 1.
    /// @param parentAdapter Adapter of the last sealed round, or the genesis adapter.
    function openRound(bytes32 task, uint64 round, bytes32 parentAdapter) external {
        StoredTask storage stored = _onlyCoordinator(task);
        uint48 previous = stored.lastRound;
        uint48 expected = previous + 1;
        if (round != expected) revert RoundsUnexpectedRound(task, round, expected);
        if (_rounds[task][previous].phase == Phase.Open) {
            revert RoundsPreviousStillOpen(task, round, previous);
        }
        uint48 parentRound = stored.lastSealedRound;
        bytes32 head = _adapterAfter(task, parentRound);
        if (parentAdapter != head) revert RoundsParentMismatch(task, round, parentAdapter, head);
        stored.lastRound = expected;
        StoredRound storage opened = _rounds[task][round];
        opened.phase = Phase.Open;
        opened.parentRound = parentRound;
        opened.openedBlock = uint48(block.number);
        emit RoundOpened(task, round, parentAdapter);
    }

    /// @notice Ends an open round with its result, once and for all.
    /// @param task Task, opened by the caller.
    /// @param round Number of the open round.
    /// @param updatesRoot Merkle root over the leaves (see `leafHash`); zero without leaves.
    /// @param leafCount Number of leaves under `updatesRoot`.
    /// @param manifestHash Hash of the round's manifest.
    /// @param adapterHash Hash of the new global adapter.
    function seal(
        bytes32 task,
        uint64 round,
        bytes32 updatesRoot,
        uint32 leafCount,
        bytes32 manifestHash,
        bytes32 adapterHash
    ) external {
        StoredTask storage stored = _onlyCoordinator(task);
        StoredRound storage closed = _close(task, round, Phase.Sealed);
        if ((leafCount == 0) != (updatesRoot == 0)) {
            revert RoundsLeafCountMismatch(task, round, leafCount, updatesRoot);
        }
        if (manifestHash == 0) revert RoundsZeroHash("manifestHash");
        if (adapterHash == 0) revert RoundsZeroHash("adapterHash");
        stored.lastSealedRound = stored.lastRound;
        closed.leafCount = leafCount;
        closed.updatesRoot = updatesRoot;
        closed.manifestHash = manifestHash;
        closed.adapterHash = adapterHash;
        emit RoundSealed(task, round, updatesRoot, leafCount, manifestHash, adapterHash);
    }

    /// @notice Ends an open round with nothing: the next round starts from the same parent.
    /// @param task Task, opened by the caller.
    /// @param round Number of the open round.
    function voidRound(bytes32 task, uint64 round) external {
        _onlyCoordinator(task);
        _close(task, round, Phase.Void);
        emit RoundVoided(task, round);
    }

    /// @notice The task with this id; reverts where there is none.
    function getTask(bytes32 task) external view returns (Task memory) {
        StoredTask storage stored = _knownTask(task);
        return Task({
            coordinator: stored.coordinator,
            terms: stored.terms,
            genesisAdapter: stored.genesisAdapter,
            lastRound: stored.lastRound,
            lastSealedRound: stored.lastSealedRound,
            headAdapter: _adapterAfter(task, stored.lastSealedRound),
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
            parentAdapter: known ? _adapterAfter(task, stored.parentRound) : bytes32(0),
            leafCount: stored.leafCount,
            updatesRoot: stored.updatesRoot,
            manifestHash: stored.manifestHash,
            adapterHash: stored.adapterHash,
            openedBlock: stored.openedBlock,
            closedBlock: stored.closedBlock
        });
    }

    /// @notice Whether a leaf stands under the sealed root of its round.
    /// @param task Task of the leaf.
    /// @param round Round of the leaf.
    /// @param index Position of the leaf, below the round's `leafCount`.
    /// @param organization Organization whose update it is.
    /// @param verdict 0 for an accepted update, otherwise the code of the rejection.
    /// @param updateHash Canonical hash of the update.
    /// @param proof Sibling hashes from the leaf up to the root.
    function isIncluded(
        bytes32 task,
        uint64 round,
        uint32 index,
        bytes32 organization,
        uint16 verdict,
        bytes32 updateHash,
        bytes32[] calldata proof
    ) external view returns (bool) {
        StoredRound storage stored = _rounds[task][round];
        // A round that is not sealed has no leaves.
        if (index >= stored.leafCount) return false;
        if (proof.length > _MAX_PROOF_LENGTH) return false;
        bytes32 leaf = leafHash(task, round, index, organization, verdict, updateHash);
        return MerkleProof.verifyCalldata(proof, stored.updatesRoot, leaf);
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

    /// @notice Hash of one leaf of a round's tree.
    /// @dev Hashed twice, so that the 64 bytes of an inner node can never be passed off as a leaf.
    function leafHash(
        bytes32 task,
        uint64 round,
        uint32 index,
        bytes32 organization,
        uint16 verdict,
        bytes32 updateHash
    ) public pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                keccak256(abi.encode(task, round, index, organization, verdict, updateHash))
            )
        );
    }

    /// @dev Moves a round from Open to `phase`.
    function _close(bytes32 task, uint64 round, Phase phase)
        private
        returns (StoredRound storage stored)
    {
        stored = _rounds[task][round];
        if (stored.phase != Phase.Open) {
            revert RoundsUnexpectedPhase(task, round, stored.phase, Phase.Open);
        }
        stored.phase = phase;
        stored.closedBlock = uint48(block.number);
    }

    /// @dev Adapter that the given sealed round produced; round 0 stands for the genesis adapter.
    function _adapterAfter(bytes32 task, uint64 sealedRound) private view returns (bytes32) {
        return sealedRound == 0
            ? _tasks[task].genesisAdapter
            : _rounds[task][sealedRound].adapterHash;
    }

    function _knownTask(bytes32 task) private view returns (StoredTask storage stored) {
        stored = _tasks[task];
        if (stored.coordinator == address(0)) revert RoundsUnknownTask(task);
    }

    function _onlyCoordinator(bytes32 task) private view returns (StoredTask storage stored) {
        stored = _knownTask(task);
        if (stored.coordinator != msg.sender) {
            revert RoundsNotCoordinator(task, msg.sender, stored.coordinator);
        }
    }
}
