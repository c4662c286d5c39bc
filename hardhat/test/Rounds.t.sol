// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Rounds} from "../contracts/Rounds.sol";
import {VM} from "./Cheats.sol";

/// @dev Opening, sealing and voiding: every revert is named here, and both sides of every branch.
contract RoundsTest {
    Rounds private _rounds;
    bytes32 private _task;

    bytes32 private constant _TERMS = keccak256("terms");
    bytes32 private constant _GENESIS = keccak256("genesis");
    bytes32 private constant _ROOT = keccak256("root");
    bytes32 private constant _MANIFEST = keccak256("manifest");
    bytes32 private constant _ADAPTER = keccak256("adapter");
    address private constant _STRANGER = address(0xBEEF);

    function setUp() public {
        _rounds = new Rounds();
        _task = _rounds.openTask(_TERMS, _GENESIS);
    }

    function test_OpenTaskRecordsCoordinatorTermsAndGenesis() public view {
        Rounds.Task memory task = _rounds.getTask(_task);
        assert(task.coordinator == address(this));
        assert(task.terms == _TERMS);
        assert(task.genesisAdapter == _GENESIS);
        assert(task.headAdapter == _GENESIS);
        assert(task.lastRound == 0 && task.lastSealedRound == 0);
        assert(task.openedBlock == block.number);
    }

    function test_OpenTaskEmitsTaskOpened() public {
        bytes32 terms = keccak256("other terms");
        VM.expectEmit();
        emit Rounds.TaskOpened(
            _rounds.taskId(address(this), terms, _GENESIS), address(this), terms, _GENESIS
        );
        _rounds.openTask(terms, _GENESIS);
    }

    function test_OpenTaskRefusesTheSameTaskTwice() public {
        VM.expectRevert(abi.encodeWithSelector(Rounds.RoundsTaskExists.selector, _task));
        _rounds.openTask(_TERMS, _GENESIS);
    }

    function test_OpenTaskGivesAnotherCoordinatorAnotherTask() public {
        VM.prank(_STRANGER);
        assert(_rounds.openTask(_TERMS, _GENESIS) != _task);
    }

    function test_ATaskIsBoundToItsContractAndItsChain() public {
        Rounds other = new Rounds();
        assert(other.taskId(address(this), _TERMS, _GENESIS) != _task);
        VM.chainId(block.chainid + 1);
        assert(_rounds.taskId(address(this), _TERMS, _GENESIS) != _task);
    }

    function test_OpenTaskRefusesZeroTerms() public {
        VM.expectRevert(abi.encodeWithSelector(Rounds.RoundsZeroHash.selector, "terms"));
        _rounds.openTask(0, _GENESIS);
    }

    function test_OpenTaskRefusesZeroGenesis() public {
        VM.expectRevert(abi.encodeWithSelector(Rounds.RoundsZeroHash.selector, "genesisAdapter"));
        _rounds.openTask(_TERMS, 0);
    }

    function test_ViewsRefuseAnUnknownTask() public {
        bytes memory unknown =
            abi.encodeWithSelector(Rounds.RoundsUnknownTask.selector, bytes32("nobody"));
        VM.expectRevert(unknown);
        _rounds.getTask("nobody");
        VM.expectRevert(unknown);
        _rounds.getRound("nobody", 1);
    }

    function test_EverySenderRefusesAnUnknownTask() public {
        bytes memory unknown =
            abi.encodeWithSelector(Rounds.RoundsUnknownTask.selector, bytes32("nobody"));
        VM.expectRevert(unknown);
        _rounds.openRound("nobody", 1, _GENESIS);
        VM.expectRevert(unknown);
        _rounds.seal("nobody", 1, _ROOT, 1, _MANIFEST, _ADAPTER);
        VM.expectRevert(unknown);
        _rounds.voidRound("nobody", 1);
    }

    function test_EverySenderRefusesAStranger() public {
        _rounds.openRound(_task, 1, _GENESIS);
        bytes memory refused = abi.encodeWithSelector(
            Rounds.RoundsNotCoordinator.selector, _task, _STRANGER, address(this)
        );
        VM.expectRevert(refused);
        VM.prank(_STRANGER);
        _rounds.openRound(_task, 2, _GENESIS);
        VM.expectRevert(refused);
        VM.prank(_STRANGER);
        _rounds.seal(_task, 1, _ROOT, 1, _MANIFEST, _ADAPTER);
        VM.expectRevert(refused);
        VM.prank(_STRANGER);
        _rounds.voidRound(_task, 1);
    }

    function test_OpenRoundRecordsParentAndBlock() public {
        VM.roll(40);
        VM.expectEmit();
        emit Rounds.RoundOpened(_task, 1, _GENESIS);
        _rounds.openRound(_task, 1, _GENESIS);
        Rounds.Round memory round = _rounds.getRound(_task, 1);
        assert(round.phase == Rounds.Phase.Open);
        assert(round.parentAdapter == _GENESIS);
        assert(round.openedBlock == 40 && round.closedBlock == 0);
        assert(_rounds.getTask(_task).lastRound == 1);
    }

    function test_OpenRoundRefusesAnotherParent() public {
        VM.expectRevert(
            abi.encodeWithSelector(
                Rounds.RoundsParentMismatch.selector, _task, 1, _ADAPTER, _GENESIS
            )
        );
        _rounds.openRound(_task, 1, _ADAPTER);
    }

    function testFuzz_OpenRoundRefusesAnyOtherNumber(uint64 round) public {
        VM.assume(round != 1);
        VM.expectRevert(
            abi.encodeWithSelector(Rounds.RoundsUnexpectedRound.selector, _task, round, 1)
        );
        _rounds.openRound(_task, round, _GENESIS);
    }

    function test_OpenRoundRefusesWhileThePreviousIsOpen() public {
        _rounds.openRound(_task, 1, _GENESIS);
        VM.expectRevert(
            abi.encodeWithSelector(Rounds.RoundsPreviousStillOpen.selector, _task, 2, 1)
        );
        _rounds.openRound(_task, 2, _GENESIS);
    }

    function test_SealRecordsItsResultAndMovesTheHead() public {
        _rounds.openRound(_task, 1, _GENESIS);
        VM.roll(41);
        VM.expectEmit();
        emit Rounds.RoundSealed(_task, 1, _ROOT, 7, _MANIFEST, _ADAPTER);
        _rounds.seal(_task, 1, _ROOT, 7, _MANIFEST, _ADAPTER);
        Rounds.Round memory round = _rounds.getRound(_task, 1);
        assert(round.phase == Rounds.Phase.Sealed);
        assert(round.parentAdapter == _GENESIS);
        assert(round.leafCount == 7);
        assert(round.updatesRoot == _ROOT);
        assert(round.manifestHash == _MANIFEST);
        assert(round.adapterHash == _ADAPTER);
        assert(round.closedBlock == 41);
        Rounds.Task memory task = _rounds.getTask(_task);
        assert(task.lastSealedRound == 1 && task.headAdapter == _ADAPTER);
    }

    function test_TheNextRoundStartsFromTheSealedAdapter() public {
        _rounds.openRound(_task, 1, _GENESIS);
        _rounds.seal(_task, 1, _ROOT, 1, _MANIFEST, _ADAPTER);
        VM.expectRevert(
            abi.encodeWithSelector(
                Rounds.RoundsParentMismatch.selector, _task, 2, _GENESIS, _ADAPTER
            )
        );
        _rounds.openRound(_task, 2, _GENESIS);
        _rounds.openRound(_task, 2, _ADAPTER);
        assert(_rounds.getRound(_task, 2).parentAdapter == _ADAPTER);
    }

    function test_AVoidRoundLeavesTheParentAsItWas() public {
        _rounds.openRound(_task, 1, _GENESIS);
        VM.expectEmit();
        emit Rounds.RoundVoided(_task, 1);
        _rounds.voidRound(_task, 1);
        assert(_rounds.getRound(_task, 1).phase == Rounds.Phase.Void);
        _rounds.openRound(_task, 2, _GENESIS);
        assert(_rounds.getRound(_task, 2).parentAdapter == _GENESIS);
    }

    function test_SealAcceptsARoundWithoutLeaves() public {
        _rounds.openRound(_task, 1, _GENESIS);
        _rounds.seal(_task, 1, 0, 0, _MANIFEST, _GENESIS);
        assert(_rounds.getRound(_task, 1).phase == Rounds.Phase.Sealed);
    }

    function test_SealRefusesARootWithoutLeavesAndLeavesWithoutARoot() public {
        _rounds.openRound(_task, 1, _GENESIS);
        VM.expectRevert(
            abi.encodeWithSelector(Rounds.RoundsLeafCountMismatch.selector, _task, 1, 0, _ROOT)
        );
        _rounds.seal(_task, 1, _ROOT, 0, _MANIFEST, _ADAPTER);
        VM.expectRevert(
            abi.encodeWithSelector(Rounds.RoundsLeafCountMismatch.selector, _task, 1, 3, 0)
        );
        _rounds.seal(_task, 1, 0, 3, _MANIFEST, _ADAPTER);
    }

    function test_SealRefusesZeroHashes() public {
        _rounds.openRound(_task, 1, _GENESIS);
        VM.expectRevert(abi.encodeWithSelector(Rounds.RoundsZeroHash.selector, "manifestHash"));
        _rounds.seal(_task, 1, _ROOT, 1, 0, _ADAPTER);
        VM.expectRevert(abi.encodeWithSelector(Rounds.RoundsZeroHash.selector, "adapterHash"));
        _rounds.seal(_task, 1, _ROOT, 1, _MANIFEST, 0);
    }

    function test_SealAndVoidRefuseARoundThatIsNotOpen() public {
        _expectPhaseRefused(1, Rounds.Phase.None);
        _rounds.openRound(_task, 1, _GENESIS);
        _rounds.seal(_task, 1, _ROOT, 1, _MANIFEST, _ADAPTER);
        _expectPhaseRefused(1, Rounds.Phase.Sealed);
        _rounds.openRound(_task, 2, _ADAPTER);
        _rounds.voidRound(_task, 2);
        _expectPhaseRefused(2, Rounds.Phase.Void);
    }

    /// @dev Each step is any call with any of its arguments right or wrong; whatever is refused,
    /// no round may move backward, skip a phase, or change once it is sealed.
    function testFuzz_PhasesOnlyMoveForward(uint8[40] memory steps) public {
        Rounds.Round[6] memory before;
        bytes32 head = _GENESIS;
        for (uint256 i = 0; i < steps.length; ++i) {
            uint64 round = uint64(steps[i] / 4 % 5) + 1;
            uint256 call = steps[i] % 4;
            bytes32 adapter = keccak256(abi.encode("adapter", i));
            bytes32 parent = steps[i] < 240 ? _rounds.getTask(_task).headAdapter : adapter;
            if (call == 0) try _rounds.openRound(_task, round, parent) {} catch {}
            if (call == 1) {
                try _rounds.seal(_task, round, adapter, 1, _MANIFEST, adapter) {
                    head = adapter;
                } catch {}
            }
            if (call == 2) try _rounds.voidRound(_task, round) {} catch {}
            if (call == 3) {
                VM.prank(_STRANGER);
                try _rounds.voidRound(_task, round) {
                    assert(false);
                } catch {}
            }
            assert(_rounds.getTask(_task).headAdapter == head);
            for (uint64 number = 1; number <= 5; ++number) {
                Rounds.Round memory then = before[number];
                Rounds.Round memory now_ = _rounds.getRound(_task, number);
                if (now_.phase == then.phase) {
                    assert(keccak256(abi.encode(now_)) == keccak256(abi.encode(then)));
                } else if (then.phase == Rounds.Phase.None) {
                    assert(now_.phase == Rounds.Phase.Open && number == round);
                } else {
                    assert(then.phase == Rounds.Phase.Open && number == round);
                    assert(now_.parentAdapter == then.parentAdapter);
                }
                before[number] = now_;
            }
        }
    }

    function _expectPhaseRefused(uint64 round, Rounds.Phase phase) private {
        bytes memory refused = abi.encodeWithSelector(
            Rounds.RoundsUnexpectedPhase.selector, _task, round, phase, Rounds.Phase.Open
        );
        VM.expectRevert(refused);
        _rounds.seal(_task, round, _ROOT, 1, _MANIFEST, _ADAPTER);
        VM.expectRevert(refused);
        _rounds.voidRound(_task, round);
    }
}
