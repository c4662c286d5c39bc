// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRounds} from "../contracts/IRounds.sol";
import {Rounds} from "../contracts/Rounds.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev When a sealed round becomes final, and that it does so in order.
contract RoundsFinalityTest is RoundsFixture {
    function test_AnAttestedRoundBecomesFinalOnceItsWindowHasPassed() public {
        _open(1);
        _seal(1);
        _attest(1);
        VM.warp(block.timestamp + _WINDOW + 1);
        VM.expectEmit();
        emit Rounds.RoundFinalized(_task, 1);
        VM.prank(_STRANGER);
        _rounds.finalize(_task, 1);
        assert(_phase(1) == IRounds.Phase.Final);
        assert(_rounds.getTask(_task).lastFinalRound == 1);
        assert(_rounds.getRound(_task, 1).record == _record());
        assert(_rounds.getRound(_task, 1).scores == _SCORES);
    }

    function test_ARoundIsNotFinalWithinItsWindow() public {
        _open(1);
        _seal(1);
        _attest(1);
        uint256 end = block.timestamp + _WINDOW;
        VM.warp(end);
        _refused(
            1,
            abi.encodeWithSelector(Rounds.RoundsStillChallengeable.selector, _task, 1, end, end)
        );
    }

    function test_ARoundIsNotFinalUnattested() public {
        _open(1);
        _seal(1);
        VM.warp(block.timestamp + _WINDOW + 1);
        _refused(1, abi.encodeWithSelector(Rounds.RoundsNotAttested.selector, _task, 1));
        _attest(1);
        _rounds.finalize(_task, 1);
    }

    function test_AnOpenChallengeBarsFinalityUntilItIsAnswered() public {
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        _sealedWith(1, update);
        _challenge(update);
        _attest(1);
        VM.warp(block.timestamp + _WINDOW + 1);
        _refused(1, abi.encodeWithSelector(Rounds.RoundsChallenged.selector, _task, 1, 1));
        _rounds.answerChallenge(_task, 1, _digestOf(update), 0, 0, new bytes32[](0));
        _rounds.finalize(_task, 1);
    }

    function test_AnUnansweredChallengeBarsFinalityEvenBeforeTheDispute() public {
        Submissions.ModelUpdate memory update = _sealedWithout(1);
        _challenge(update);
        _attest(1);
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _refused(1, abi.encodeWithSelector(Rounds.RoundsChallenged.selector, _task, 1, 1));
    }

    function test_AChallengeOfAnUnavailableUpdateDoesNotBarFinality() public {
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        VM.prank(_key(0));
        _rounds.submitDirect(update);
        _seal(1);
        _challenge(update, "");
        VM.prank(_lead);
        _rounds.answerUnavailable(_task, 1, _org(0));
        _finalize(1);
        assert(_phase(1) == IRounds.Phase.Final);
    }

    function test_OnlyASealedRoundBecomesFinalAndOnlyOnce() public {
        _refusedInPhase(1);
        _open(1);
        _refusedInPhase(1);
        _seal(1);
        _finalize(1);
        _refusedInPhase(1);
        _disputed(2);
        _refusedInPhase(2);
        _open(3);
        _void(3);
        _refusedInPhase(3);
    }

    function test_ARoundIsNotFinalBeforeItsParent() public {
        _open(1);
        _seal(1);
        _open(2);
        _seal(2);
        _attest(2);
        VM.warp(block.timestamp + _WINDOW + 1);
        _refused(
            2, abi.encodeWithSelector(Rounds.RoundsParentNotFinal.selector, _task, 2, 1, 0)
        );
        _finalize(1);
        _rounds.finalize(_task, 2);
    }

    function test_VoidRoundsDoNotInterruptTheChain() public {
        _open(1);
        _void(1);
        _open(2);
        _seal(2);
        _open(3);
        _void(3);
        _open(4);
        _seal(4);
        _finalize(2);
        _finalize(4);
        assert(_rounds.getTask(_task).lastFinalRound == 4);
        assert(_rounds.getRound(_task, 4).parentRound == 2);
        assert(_rounds.getRound(_task, 2).parentRound == 0);
    }

    function test_AnUnknownTaskHasNothingToMakeFinal() public {
        _task = "nobody";
        _refusedInPhase(1);
    }

    function _refused(uint64 round, bytes memory reason) private {
        _refuses(_STRANGER, abi.encodeCall(_rounds.finalize, (_task, round)), reason);
    }

    function _refusedInPhase(uint64 round) private {
        bytes memory call = abi.encodeCall(_rounds.finalize, (_task, round));
        _refusesPhase(_STRANGER, 0, call, round, IRounds.Phase.Sealed);
    }
}
