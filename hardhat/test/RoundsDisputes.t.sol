// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRounds} from "../contracts/IRounds.sol";
import {Omissions} from "../contracts/Omissions.sol";
import {Rounds} from "../contracts/Rounds.sol";
import {RoundsState} from "../contracts/RoundsState.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev What becomes of a round that leaves a challenge unanswered, and of the rounds after it.
contract RoundsDisputesTest is RoundsFixture {
    function test_AnUnansweredChallengeMakesARoundDisputed() public {
        Submissions.ModelUpdate memory update = _sealedWithout(1);
        _challenge(update);
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        VM.expectEmit();
        emit Omissions.RoundDisputed(_task, 1, 1);
        VM.expectEmit();
        emit Omissions.BranchAbandoned(_task, 0, 1);
        VM.prank(_STRANGER);
        _rounds.dispute(_task, 1);
        RoundsState.Round memory round = _rounds.getRound(_task, 1);
        assert(round.phase == IRounds.Phase.Disputed && round.openChallenges == 1);
        RoundsState.Task memory task = _rounds.getTask(_task);
        assert(task.headRound == 0 && task.headAdapter == _GENESIS && task.branchStart == 1);
        assert(task.lastRound == 1 && task.coordinator == _lead);
    }

    function test_DisputeWaitsForTheEndOfTheAnswers() public {
        _challenge(_sealedWithout(1));
        uint256 end = block.timestamp + _WINDOW + _RESPONSE;
        VM.warp(end);
        _refuses(
            _STRANGER,
            abi.encodeCall(_rounds.dispute, (_task, 1)),
            abi.encodeWithSelector(Omissions.OmissionsTooEarly.selector, _task, 1, end, end)
        );
    }

    function test_DisputeNeedsAnOpenChallenge() public {
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        _sealedWith(1, update);
        bytes memory none = abi.encodeWithSelector(Omissions.OmissionsNoneOpen.selector, _task, 1);
        _refuses(_STRANGER, abi.encodeCall(_rounds.dispute, (_task, 1)), none);
        _challenge(update);
        _rounds.answerChallenge(_task, 1, _digestOf(update), 0, 0, new bytes32[](0));
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _refuses(_STRANGER, abi.encodeCall(_rounds.dispute, (_task, 1)), none);
    }

    function test_OneUnansweredChallengeAmongManyIsEnough() public {
        _open(1);
        Submissions.ModelUpdate memory included = _update(0, 1);
        _sealedWith(1, included);
        _challenge(included);
        _challenge(_update(1, 1));
        _rounds.answerChallenge(_task, 1, _digestOf(included), 0, 0, new bytes32[](0));
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 1);
        assert(_phase(1) == IRounds.Phase.Disputed);
    }

    function test_OnlyASealedRoundIsDisputed() public {
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

    function test_TheBondOfAnUnansweredChallengeGoesBackOnce() public {
        Submissions.ModelUpdate memory update = _disputed(1);
        VM.expectEmit();
        emit Omissions.BondRefunded(_task, 1, _digestOf(update), _STRANGER);
        VM.prank(address(0xA11));
        _rounds.refundBond(_task, 1, _digestOf(update));
        assert(_rounds.creditOf(_STRANGER) == _BOND && _rounds.creditOf(_lead) == 0);
        assert(
            _rounds.challengeOf(_task, 1, _digestOf(update)).state
                == Omissions.ChallengeState.Upheld
        );
        _refusedRefund(1, _digestOf(update), 4);
    }

    function test_OnlyADisputedRoundGivesBondsBack() public {
        _refusedRefundInPhase(1);
        _open(1);
        _refusedRefundInPhase(1);
        _seal(1);
        _challenge(_update(0, 1));
        _refusedRefundInPhase(1);
        _open(2);
        _void(2);
        _refusedRefundInPhase(2);
    }

    function test_TheBondOfAnAnsweredChallengeIsNotGivenBack() public {
        _open(1);
        Submissions.ModelUpdate memory included = _update(0, 1);
        _sealedWith(1, included);
        _challenge(included);
        _challenge(_update(1, 1));
        _rounds.answerChallenge(_task, 1, _digestOf(included), 0, 0, new bytes32[](0));
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 1);
        _refusedRefund(1, _digestOf(included), 2);
        _refusedRefund(1, "nothing", 0);
        _rounds.refundBond(_task, 1, _digestOf(_update(1, 1)));
        assert(address(_rounds).balance == 2 * uint256(_BOND));
        assert(_rounds.creditOf(_lead) == _BOND && _rounds.creditOf(_STRANGER) == _BOND);
    }

    function test_NothingIsAnsweredOnceDisputed() public {
        Submissions.ModelUpdate memory update = _disputed(1);
        uint256 end = block.timestamp - 1;
        _refuses(
            _lead,
            abi.encodeCall(
                _rounds.answerChallenge, (_task, 1, _digestOf(update), 0, 0, new bytes32[](0))
            ),
            abi.encodeWithSelector(
                Omissions.OmissionsTooLate.selector, _task, 1, end, block.timestamp
            )
        );
    }

    function test_TheNextRoundStartsFromTheLastFinalOne() public {
        _open(1);
        _seal(1);
        _finalize(1);
        _disputed(2);
        assert(_rounds.getTask(_task).headRound == 1);
        _open(3);
        assert(_rounds.getRound(_task, 3).parentRound == 1);
        assert(_rounds.getRound(_task, 3).parentAdapter == _adapter(1));
        _seal(3);
        _finalize(3);
        assert(_rounds.getTask(_task).lastFinalRound == 3);
    }

    /// @dev Round 2 is disputed after 3 and 4 were built on it: neither ever becomes final.
    function test_WhatWasBuiltOnADisputedRoundIsOrphaned() public {
        _open(1);
        _seal(1);
        _finalize(1);
        _challenge(_sealedWithout(2));
        _open(3);
        _seal(3);
        _attest(3);
        _open(4);
        _seal(4);
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 2);
        assert(_rounds.getTask(_task).branchStart == 4);
        assert(_phase(3) == IRounds.Phase.Sealed && _phase(4) == IRounds.Phase.Sealed);
        _refusedOrphan(3, 4);
        _open(5);
        _seal(5);
        _finalize(5);
        _refusedOrphan(3, 4);
        _attest(4);
        _refusedOrphan(4, 4);
        assert(_rounds.getRound(_task, 5).parentRound == 1);
    }

    /// @dev If a round before the disputed one could become final once the task had started again
    /// from their common parent, then nothing on the new branch ever could.
    function test_ARoundBeforeTheDisputedOneIsOrphanedTooUnlessItIsFinal() public {
        _open(1);
        _seal(1);
        _attest(1);
        _challenge(_sealedWithout(2));
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 2);
        _refusedOrphan(1, 2);
        _open(3);
        _seal(3);
        _finalize(3);
        assert(_rounds.getRound(_task, 3).parentRound == 0);
        _refusedOrphan(1, 2);
    }

    function test_WhatIsReadyIsMadeFinalBeforeADispute() public {
        _open(1);
        _seal(1);
        _attest(1);
        _challenge(_sealedWithout(2));
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.finalize(_task, 1);
        _rounds.dispute(_task, 2);
        assert(_rounds.getTask(_task).headRound == 1);
        assert(_phase(1) == IRounds.Phase.Final);
    }

    function test_AnOpenRoundOfAnAbandonedBranchIsVoidedAndNeverSealed() public {
        _challenge(_sealedWithout(1));
        _open(2);
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 1);
        _refuses(
            _lead,
            abi.encodeCall(
                _rounds.seal, (_task, 2, _ROOT, 7, _adapter(2), _MANIFEST, _REWARDS, _TOTAL)
            ),
            abi.encodeWithSelector(Rounds.RoundsOrphaned.selector, _task, 2, 2)
        );
        _void(2);
        _open(3);
        assert(_rounds.getRound(_task, 3).parentAdapter == _GENESIS);
    }

    /// @dev An orphan may be disputed as well, which leaves the branch after it alone.
    function test_TheDisputeOfAnOrphanLeavesTheCurrentBranchAlone() public {
        _challenge(_sealedWithout(1));
        Submissions.ModelUpdate memory second = _sealedWithout(2);
        _challenge(second);
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 1);
        _open(3);
        _seal(3);
        RoundsState.Task memory before = _rounds.getTask(_task);
        _rounds.dispute(_task, 2);
        assert(_phase(2) == IRounds.Phase.Disputed);
        assert(keccak256(abi.encode(_rounds.getTask(_task))) == keccak256(abi.encode(before)));
        _rounds.refundBond(_task, 2, _digestOf(second));
        _finalize(3);
        assert(_rounds.getTask(_task).lastFinalRound == 3);
    }

    function test_OneBranchAfterAnotherMayBeAbandoned() public {
        _open(1);
        _seal(1);
        _finalize(1);
        for (uint64 round = 2; round < 5; ++round) {
            _disputed(round);
            RoundsState.Task memory task = _rounds.getTask(_task);
            assert(task.headRound == 1 && task.branchStart == round);
        }
        _open(5);
        _seal(5);
        _finalize(5);
        assert(_rounds.getTask(_task).headRound == 5);
    }

    function _refusedOrphan(uint64 round, uint64 branchStart) private {
        VM.warp(block.timestamp + _WINDOW + 1);
        _refuses(
            _STRANGER,
            abi.encodeCall(_rounds.finalize, (_task, round)),
            abi.encodeWithSelector(Rounds.RoundsOrphaned.selector, _task, round, branchStart)
        );
    }

    function _refusedRefund(uint64 round, bytes32 digest, uint8 state) private {
        _refuses(
            _STRANGER,
            abi.encodeCall(_rounds.refundBond, (_task, round, digest)),
            abi.encodeWithSelector(Omissions.OmissionsNotOpen.selector, _task, round, digest, state)
        );
    }

    function _refusedRefundInPhase(uint64 round) private {
        bytes memory call =
            abi.encodeCall(_rounds.refundBond, (_task, round, _digestOf(_update(0, round))));
        _refusesPhase(_STRANGER, 0, call, round, IRounds.Phase.Disputed);
    }

    function _refusedInPhase(uint64 round) private {
        bytes memory call = abi.encodeCall(_rounds.dispute, (_task, round));
        _refusesPhase(_STRANGER, 0, call, round, IRounds.Phase.Sealed);
    }
}
