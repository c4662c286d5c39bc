// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "../contracts/Attestors.sol";
import {COORDINATOR, IRegistry} from "../contracts/IRegistry.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Registry} from "../contracts/Registry.sol";
import {Rounds} from "../contracts/Rounds.sol";
import {RoundsState} from "../contracts/RoundsState.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev Opening tasks, opening, sealing and voiding rounds.
contract RoundsTest is RoundsFixture {
    function test_ARegistryIsNeeded() public {
        VM.expectRevert(
            abi.encodeWithSelector(Attestors.AttestorsNoRegistry.selector, address(0xDEAD))
        );
        new Rounds(IRegistry(address(0xDEAD)));
        assert(address(_rounds.REGISTRY()) == address(_registry));
    }

    function test_OpenTaskRecordsAllItIsGiven() public view {
        RoundsState.Task memory task = _rounds.getTask(_task);
        assert(task.coordinator == _lead && _rounds.coordinatorOf(_task) == _lead);
        assert(task.terms == _TERMS);
        assert(task.genesisAdapter == _GENESIS);
        assert(task.headAdapter == _GENESIS);
        assert(task.challengeWindow == _WINDOW && task.responseWindow == _RESPONSE);
        assert(task.bond == _BOND);
        assert(task.lastRound == 0 && task.headRound == 0);
        assert(task.lastFinalRound == 0 && task.branchStart == 0);
        assert(task.openedBlock == block.number);
    }

    function testFuzz_OpenTaskKeepsWindowsAndBondApart(
        uint32 challengeWindow,
        uint32 responseWindow,
        uint96 bond
    ) public {
        VM.assume(challengeWindow != 0 && responseWindow != 0);
        VM.prank(_lead);
        bytes32 id = _rounds.openTask("other", _GENESIS, challengeWindow, responseWindow, bond);
        RoundsState.Task memory task = _rounds.getTask(id);
        assert(task.challengeWindow == challengeWindow);
        assert(task.responseWindow == responseWindow);
        assert(task.bond == bond && task.coordinator == _lead);
    }

    function test_OpenTaskEmitsTaskOpened() public {
        bytes32 id = _rounds.taskId(_lead, "other", _GENESIS);
        VM.expectEmit();
        emit Rounds.TaskOpened(id, _lead, "other", _GENESIS, _WINDOW, _RESPONSE, _BOND);
        assert(_openedTask("other") == id);
    }

    function test_OpenTaskNeedsTheCoordinatorRole() public {
        _refuses(
            _STRANGER,
            abi.encodeCall(_rounds.openTask, (_TERMS, _GENESIS, _WINDOW, _RESPONSE, _BOND)),
            _missing(_STRANGER)
        );
    }

    function test_OpenTaskRefusesTheSameTaskTwice() public {
        _refuses(
            _lead,
            abi.encodeCall(_rounds.openTask, (_TERMS, _GENESIS, 1, 1, 0)),
            abi.encodeWithSelector(Rounds.RoundsTaskExists.selector, _task)
        );
    }

    function test_OpenTaskGivesAnotherCoordinatorAnotherTask() public {
        VM.prank(_COORDINATOR);
        assert(_rounds.openTask(_TERMS, _GENESIS, _WINDOW, _RESPONSE, _BOND) != _task);
    }

    function test_ATaskIsBoundToItsContractAndItsChain() public {
        Rounds other = new Rounds(_registry);
        assert(other.taskId(_lead, _TERMS, _GENESIS) != _task);
        VM.chainId(block.chainid + 1);
        assert(_rounds.taskId(_lead, _TERMS, _GENESIS) != _task);
    }

    function test_OpenTaskRefusesZeroTermsAndZeroGenesis() public {
        _refusesTask(0, _GENESIS, 1, 1, "terms");
        _refusesTask("other", 0, 1, 1, "genesisAdapter");
    }

    function test_OpenTaskRefusesWindowsOfNoTime() public {
        _refusesTask("other", _GENESIS, 0, 1, "challengeWindow");
        _refusesTask("other", _GENESIS, 1, 0, "responseWindow");
    }

    function test_ViewsOfAnUnknownTaskRefuseOrAnswerZero() public {
        bytes memory unknown =
            abi.encodeWithSelector(RoundsState.RoundsUnknownTask.selector, bytes32("nobody"));
        _refuses(_STRANGER, abi.encodeCall(_rounds.getTask, ("nobody")), unknown);
        _refuses(_STRANGER, abi.encodeCall(_rounds.getRound, ("nobody", 1)), unknown);
        assert(_rounds.phaseOf("nobody", 1) == IRounds.Phase.None);
        assert(_rounds.recordOf("nobody", 1) == 0 && _rounds.coordinatorOf("nobody") == address(0));
    }

    function test_ARoundNeverOpenedIsAllZero() public view {
        RoundsState.Round memory blank;
        assert(keccak256(abi.encode(_rounds.getRound(_task, 9))) == keccak256(abi.encode(blank)));
    }

    function test_EverySenderOfTheCoordinatorRefusesAnUnknownTask() public {
        bytes memory unknown =
            abi.encodeWithSelector(RoundsState.RoundsUnknownTask.selector, bytes32("nobody"));
        bytes[4] memory calls = _callsOfTheCoordinator("nobody");
        for (uint256 i = 0; i < calls.length; ++i) _refuses(_lead, calls[i], unknown);
    }

    function test_EverySenderOfTheCoordinatorRefusesAStrangerAndAnotherCoordinator() public {
        _open(1);
        bytes[4] memory calls = _callsOfTheCoordinator(_task);
        bytes4 selector = RoundsState.RoundsNotCoordinator.selector;
        for (uint256 i = 0; i < calls.length; ++i) {
            _refuses(
                _STRANGER, calls[i], abi.encodeWithSelector(selector, _task, _STRANGER, _lead)
            );
            _refuses(
                _COORDINATOR, calls[i], abi.encodeWithSelector(selector, _task, _COORDINATOR, _lead)
            );
        }
    }

    function test_OpenRoundRecordsParentAndBlock() public {
        VM.roll(140);
        VM.expectEmit();
        emit Rounds.RoundOpened(_task, 1, 0, _GENESIS);
        _open(1);
        RoundsState.Round memory round = _rounds.getRound(_task, 1);
        assert(round.phase == IRounds.Phase.Open);
        assert(round.parentAdapter == _GENESIS && round.parentRound == 0);
        assert(round.openedBlock == 140 && round.closedBlock == 0 && round.closedAt == 0);
        assert(_rounds.getTask(_task).lastRound == 1);
    }

    function test_OpenRoundRefusesAnotherParent() public {
        _refuses(
            _lead,
            abi.encodeCall(_rounds.openRound, (_task, 1, _adapter(1))),
            abi.encodeWithSelector(
                Rounds.RoundsParentMismatch.selector, _task, 1, _adapter(1), _GENESIS
            )
        );
    }

    function testFuzz_OpenRoundRefusesAnyOtherNumber(uint64 round) public {
        VM.assume(round != 1);
        _refuses(
            _lead,
            abi.encodeCall(_rounds.openRound, (_task, round, _GENESIS)),
            abi.encodeWithSelector(Rounds.RoundsUnexpectedRound.selector, _task, round, 1)
        );
    }

    function test_OpenRoundRefusesWhileThePreviousIsOpen() public {
        _open(1);
        _refuses(
            _lead,
            abi.encodeCall(_rounds.openRound, (_task, 2, _GENESIS)),
            abi.encodeWithSelector(Rounds.RoundsPreviousStillOpen.selector, _task, 2, 1)
        );
    }

    function test_WithoutItsRoleACoordinatorOpensNothingButEndsWhatItOpened() public {
        _open(1);
        _revokeLead();
        _refuses(
            _lead,
            abi.encodeCall(_rounds.openTask, ("other", _GENESIS, 1, 1, 0)),
            _missing(_lead)
        );
        _seal(1);
        assert(_phase(1) == IRounds.Phase.Sealed);
        _refuses(
            _lead,
            abi.encodeCall(_rounds.openRound, (_task, 2, _adapter(1))),
            _missing(_lead)
        );
    }

    function test_WithoutItsRoleACoordinatorVoidsWhatItOpened() public {
        _open(1);
        _revokeLead();
        _void(1);
        assert(_phase(1) == IRounds.Phase.Void);
    }

    function test_SealRecordsItsResultAndMovesTheHead() public {
        _open(1);
        VM.roll(141);
        VM.warp(1234);
        VM.expectEmit();
        emit Rounds.RoundSealed(
            _task, 1, _ROOT, 7, _adapter(1), _MANIFEST, _REWARDS, _TOTAL
        );
        _seal(1);
        RoundsState.Round memory round = _rounds.getRound(_task, 1);
        assert(round.phase == IRounds.Phase.Sealed);
        assert(round.parentAdapter == _GENESIS && round.parentRound == 0);
        assert(round.leafCount == 7);
        assert(round.updatesRoot == _ROOT);
        assert(round.adapterHash == _adapter(1));
        assert(round.record == _record() && _rounds.recordOf(_task, 1) == _record());
        assert(round.scores == 0 && round.openChallenges == 0);
        assert(round.openedBlock == 100 && round.closedBlock == 141 && round.closedAt == 1234);
        RoundsState.Task memory task = _rounds.getTask(_task);
        assert(task.headRound == 1 && task.headAdapter == _adapter(1) && task.lastRound == 1);
    }

    function testFuzz_TheRecordDigestIsTheHashOfItsThreeFields(
        bytes32 manifest,
        bytes32 rewards,
        uint256 total
    ) public view {
        bytes32 digest = keccak256(abi.encode(manifest, rewards, total));
        assert(_rounds.recordDigest(manifest, rewards, total) == digest);
    }

    function test_TheNextRoundStartsFromTheSealedAdapter() public {
        _open(1);
        _seal(1);
        _refuses(
            _lead,
            abi.encodeCall(_rounds.openRound, (_task, 2, _GENESIS)),
            abi.encodeWithSelector(
                Rounds.RoundsParentMismatch.selector, _task, 2, _GENESIS, _adapter(1)
            )
        );
        _open(2);
        assert(_rounds.getRound(_task, 2).parentAdapter == _adapter(1));
        assert(_rounds.getRound(_task, 2).parentRound == 1);
    }

    function test_AVoidRoundLeavesTheParentAsItWas() public {
        _open(1);
        _seal(1);
        _open(2);
        VM.roll(142);
        VM.expectEmit();
        emit Rounds.RoundVoided(_task, 2);
        _void(2);
        assert(_phase(2) == IRounds.Phase.Void);
        assert(_rounds.getRound(_task, 2).closedBlock == 142);
        _open(3);
        assert(_rounds.getRound(_task, 3).parentRound == 1);
    }

    function test_SealAcceptsARoundWithoutLeavesAndOneWithoutRewards() public {
        _open(1);
        VM.prank(_lead);
        _rounds.seal(_task, 1, 0, 0, _GENESIS, _MANIFEST, 0, 0);
        assert(_phase(1) == IRounds.Phase.Sealed);
        assert(_rounds.recordOf(_task, 1) == keccak256(abi.encode(_MANIFEST, uint256(0), 0)));
    }

    function test_SealRefusesARootWithoutLeavesAndLeavesWithoutARoot() public {
        _open(1);
        bytes4 selector = Rounds.RoundsLeafCountMismatch.selector;
        _refuses(
            _lead,
            abi.encodeCall(
                _rounds.seal, (_task, 1, _ROOT, 0, _adapter(1), _MANIFEST, _REWARDS, _TOTAL)
            ),
            abi.encodeWithSelector(selector, _task, 1, 0, _ROOT)
        );
        _refuses(
            _lead,
            abi.encodeCall(
                _rounds.seal, (_task, 1, 0, 3, _adapter(1), _MANIFEST, _REWARDS, _TOTAL)
            ),
            abi.encodeWithSelector(selector, _task, 1, 3, 0)
        );
    }

    function test_SealRefusesRewardsWithoutATotalAndATotalWithoutRewards() public {
        _open(1);
        bytes4 selector = Rounds.RoundsRewardsMismatch.selector;
        _refuses(
            _lead,
            abi.encodeCall(
                _rounds.seal, (_task, 1, _ROOT, 7, _adapter(1), _MANIFEST, _REWARDS, 0)
            ),
            abi.encodeWithSelector(selector, _task, 1, _REWARDS, 0)
        );
        _refuses(
            _lead,
            abi.encodeCall(_rounds.seal, (_task, 1, _ROOT, 7, _adapter(1), _MANIFEST, 0, 1)),
            abi.encodeWithSelector(selector, _task, 1, 0, 1)
        );
    }

    function test_SealRefusesZeroHashes() public {
        _open(1);
        bytes4 selector = RoundsState.RoundsZeroValue.selector;
        _refuses(
            _lead,
            abi.encodeCall(_rounds.seal, (_task, 1, _ROOT, 7, 0, _MANIFEST, _REWARDS, _TOTAL)),
            abi.encodeWithSelector(selector, "adapterHash")
        );
        _refuses(
            _lead,
            abi.encodeCall(_rounds.seal, (_task, 1, _ROOT, 7, _adapter(1), 0, _REWARDS, _TOTAL)),
            abi.encodeWithSelector(selector, "manifestHash")
        );
    }

    function test_SealAndVoidRefuseEveryPhaseButOpen() public {
        _refusesEnding(1);
        _open(1);
        _seal(1);
        _refusesEnding(1);
        _finalize(1);
        _refusesEnding(1);
        _disputed(2);
        _refusesEnding(2);
        _open(3);
        _void(3);
        _refusesEnding(3);
    }

    function test_TwoTasksKeepTheirRoundsApart() public {
        bytes32 first = _task;
        bytes32 second = _openedTask("second");
        _open(1);
        _seal(1);
        assert(_rounds.phaseOf(second, 1) == IRounds.Phase.None);
        _task = second;
        _open(1);
        _void(1);
        assert(_rounds.phaseOf(first, 1) == IRounds.Phase.Sealed);
    }

    function _refusesEnding(uint64 round) private {
        bytes[4] memory calls = _callsOfTheCoordinator(_task, round);
        _refusesPhase(_lead, 0, calls[1], round, IRounds.Phase.Open);
        _refusesPhase(_lead, 0, calls[2], round, IRounds.Phase.Open);
    }

    function _callsOfTheCoordinator(bytes32 task) private view returns (bytes[4] memory) {
        return _callsOfTheCoordinator(task, 1);
    }

    function _callsOfTheCoordinator(bytes32 task, uint64 round)
        private
        view
        returns (bytes[4] memory calls)
    {
        calls[0] = abi.encodeCall(_rounds.openRound, (task, round, _GENESIS));
        calls[1] = abi.encodeCall(
            _rounds.seal, (task, round, _ROOT, 7, _adapter(1), _MANIFEST, _REWARDS, _TOTAL)
        );
        calls[2] = abi.encodeCall(_rounds.voidRound, (task, round));
        calls[3] = abi.encodeCall(_rounds.answerUnavailable, (task, round, _org(0)));
    }

    function _revokeLead() private {
        _executed(_ofRole(Registry.Kind.RevokeRole, COORDINATOR, _lead));
    }

    function _refusesTask(
        bytes32 terms,
        bytes32 genesis,
        uint32 challengeWindow,
        uint32 responseWindow,
        string memory field
    ) private {
        _refuses(
            _lead,
            abi.encodeCall(
                _rounds.openTask, (terms, genesis, challengeWindow, responseWindow, _BOND)
            ),
            abi.encodeWithSelector(RoundsState.RoundsZeroValue.selector, field)
        );
    }

    function _missing(address account) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Rounds.RoundsMissingRole.selector, COORDINATOR, account);
    }
}
