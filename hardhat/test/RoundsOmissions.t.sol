// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRounds} from "../contracts/IRounds.sol";
import {Omissions} from "../contracts/Omissions.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev Challenging a sealed round, and the two answers to a challenge.
contract RoundsOmissionsTest is RoundsFixture {
    /// @dev A round sealed without the update of organization 0, for which there is a receipt, and
    /// without that of organization 1, which is on the chain.
    Submissions.ModelUpdate private _received;
    Submissions.ModelUpdate private _submitted;
    bytes32 private _digest0;
    bytes32 private _digest1;

    function setUp() public override {
        super.setUp();
        _open(1);
        _received = _update(0, 1);
        _submitted = _update(1, 1);
        (_digest0, _digest1) = (_digestOf(_received), _digestOf(_submitted));
        VM.prank(_key(1));
        _rounds.submitDirect(_submitted);
        _seal(1);
    }

    function test_TheReceiptDigestIsThatOfEip712() public view {
        assert(_rounds.receiptDigest(_digest0) == _receiptDigest(_digest0));
    }

    function test_AReceiptOpensAChallenge() public {
        VM.expectEmit();
        emit Omissions.OmissionChallenged(_task, 1, _digest0, _org(0), _STRANGER, true);
        _challenge(_received);
        _expectChallenge(_digest0, Omissions.ChallengeState.Open, true);
        assert(_rounds.getRound(_task, 1).openChallenges == 1);
        assert(address(_rounds).balance == _BOND && _STRANGER.balance == 99 ether);
    }

    function test_ASubmissionOpensAChallengeWithoutAReceipt() public {
        VM.expectEmit();
        emit Omissions.OmissionChallenged(_task, 1, _digest1, _org(1), _STRANGER, false);
        _challenge(_submitted, "");
        _expectChallenge(_digest1, Omissions.ChallengeState.Open, false);
    }

    function test_AChallengeDepositsExactlyTheBond() public {
        uint256[3] memory values = [0, uint256(_BOND) - 1, uint256(_BOND) + 1];
        for (uint256 i = 0; i < values.length; ++i) {
            _refuses(
                _STRANGER,
                values[i],
                _callOf(_received, _receipt(_received)),
                abi.encodeWithSelector(Omissions.OmissionsWrongBond.selector, values[i], _BOND)
            );
        }
    }

    function test_WithoutABondChallengesAreFree() public {
        VM.prank(_lead);
        _task = _rounds.openTask("free", _GENESIS, _WINDOW, _RESPONSE, 0);
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        _sealedWith(1, update);
        _rounds.challengeOmission(update, _receipt(update));
        _rounds.answerChallenge(_task, 1, _digestOf(update), 0, 0, new bytes32[](0));
        assert(_rounds.creditOf(_lead) == 0);
    }

    function test_AChallengeIsFiledUpToTheEndOfItsWindowAndNoLater() public {
        uint256 end = block.timestamp + _WINDOW;
        VM.warp(end + 1);
        _refuses(
            _STRANGER,
            _BOND,
            _callOf(_received, _receipt(_received)),
            abi.encodeWithSelector(Omissions.OmissionsTooLate.selector, _task, 1, end, end + 1)
        );
        VM.warp(end);
        _challenge(_received);
    }

    function test_OnlyASealedRoundIsChallenged() public {
        _refusedInPhase(2);
        _finalize(1);
        _refusedInPhase(1);
        _open(2);
        _refusedInPhase(2);
        _void(2);
        _refusedInPhase(2);
        _disputed(3);
        _refusedInPhase(3);
    }

    function test_WithoutAReceiptTheUpdateMustBeTheOneSubmitted() public {
        bytes4 selector = Omissions.OmissionsNotSubmitted.selector;
        _refusedChallenge(
            _received, "", abi.encodeWithSelector(selector, _task, 1, _org(0), 0, _digest0)
        );
        Submissions.ModelUpdate memory other = _submitted;
        other.commitment = "other";
        _refusedChallenge(
            other,
            "",
            abi.encodeWithSelector(selector, _task, 1, _org(1), _digest1, _digestOf(other))
        );
    }

    function test_AReceiptThatIsWrongDoesNotFallBackOnTheSubmission() public {
        bytes memory receipt = _signed(_secret(1), _receiptDigest(_digest1));
        _refusedChallenge(
            _submitted,
            receipt,
            abi.encodeWithSelector(
                Omissions.OmissionsWrongReceipt.selector, _digest1, _key(1), _lead
            )
        );
    }

    function test_AnOmissionIsChallengedOnceByReceipt() public {
        _challenge(_received);
        _refusedChallenge(_received, _receipt(_received), _already(_digest0, 1));
    }

    function test_AnOmissionIsChallengedOnceBySubmission() public {
        _challenge(_submitted, "");
        _refusedChallenge(_submitted, "", _already(_digest1, 1));
    }

    function test_AnAnsweredChallengeIsNotOpenedAgain() public {
        Submissions.ModelUpdate memory update = _sealedAmongTwo();
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf("other", 1, 0);
        _challenge(update, "");
        _rounds.answerChallenge(_task, 2, _digestOf(update), 0, 3, proof);
        bytes memory refused = abi.encodeWithSelector(
            Omissions.OmissionsAlreadyChallenged.selector,
            _task,
            2,
            _digestOf(update),
            Omissions.ChallengeState.Answered
        );
        _refusedChallenge(update, "", refused);
        _refusedChallenge(update, _receipt(update), refused);
    }

    function test_AReceiptTakesOverAChallengeWithoutOne() public {
        address first = address(0xF1);
        VM.deal(first, _BOND);
        VM.prank(first);
        _rounds.challengeOmission{value: _BOND}(_submitted, "");
        VM.expectEmit();
        emit Omissions.OmissionChallenged(_task, 1, _digest1, _org(1), _STRANGER, true);
        _challenge(_submitted);
        _expectChallenge(_digest1, Omissions.ChallengeState.Open, true);
        assert(_rounds.creditOf(first) == _BOND && _rounds.creditOf(_STRANGER) == 0);
        assert(_rounds.getRound(_task, 1).openChallenges == 1);
        _refusedUnavailable(_receiptGiven(_digest1));
    }

    function test_NothingTakesOverAChallengeByReceipt() public {
        _challenge(_submitted);
        _refusedChallenge(_submitted, "", _already(_digest1, 1));
        _refusedChallenge(_submitted, _receipt(_submitted), _already(_digest1, 1));
    }

    /// @dev Or the coordinator would challenge itself, declare the update unavailable and so keep
    /// the holder of its receipt from ever challenging it.
    function test_AReceiptOpensAgainWhatTheCoordinatorDeclaredUnavailable() public {
        VM.prank(_lead);
        _rounds.challengeOmission{value: _BOND}(_submitted, "");
        VM.prank(_lead);
        _rounds.answerUnavailable(_task, 1, _org(1));
        _refusedChallenge(_submitted, "", _already(_digest1, 3));
        _challenge(_submitted);
        _expectChallenge(_digest1, Omissions.ChallengeState.Open, true);
        assert(_rounds.getRound(_task, 1).openChallenges == 1);
        _refusedUnavailable(_receiptGiven(_digest1));
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 1);
        assert(_phase(1) == IRounds.Phase.Disputed);
    }

    function test_AnInclusionProofAnswersAChallengeForTheCoordinatorsBenefit() public {
        Submissions.ModelUpdate memory update = _sealedAmongTwo();
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf("other", 1, 0);
        _challenge(update);
        VM.expectEmit();
        emit Omissions.ChallengeAnswered(_task, 2, _digestOf(update), 0, 3);
        VM.prank(address(0xA11));
        _rounds.answerChallenge(_task, 2, _digestOf(update), 0, 3, proof);
        assert(_rounds.creditOf(_lead) == _BOND && _rounds.creditOf(_STRANGER) == 0);
        assert(_rounds.getRound(_task, 2).openChallenges == 0);
        assert(
            _rounds.challengeOf(_task, 2, _digestOf(update)).state
                == Omissions.ChallengeState.Answered
        );
        _refusedAnswer(update, proof, 2);
    }

    function test_AnAnswerNeedsAValidProof() public {
        Submissions.ModelUpdate memory update = _sealedAmongTwo();
        bytes32 digest = _digestOf(update);
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf("other", 1, 0);
        _challenge(update);
        bytes4 selector = Omissions.OmissionsNotIncluded.selector;
        _refuses(
            _lead,
            abi.encodeCall(_rounds.answerChallenge, (_task, 2, digest, 0, 0, proof)),
            abi.encodeWithSelector(selector, _task, 2, digest, 0, 0)
        );
        _refuses(
            _lead,
            abi.encodeCall(_rounds.answerChallenge, (_task, 2, digest, 1, 3, proof)),
            abi.encodeWithSelector(selector, _task, 2, digest, 1, 3)
        );
        proof[0] = 0;
        _refuses(
            _lead,
            abi.encodeCall(_rounds.answerChallenge, (_task, 2, digest, 0, 3, proof)),
            abi.encodeWithSelector(selector, _task, 2, digest, 0, 3)
        );
        assert(_rounds.creditOf(_lead) == 0 && _rounds.getRound(_task, 2).openChallenges == 1);
    }

    function test_WhatIsNotChallengedIsNotAnswered() public {
        Submissions.ModelUpdate memory update = _sealedAmongTwo();
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf("other", 1, 0);
        _refusedAnswer(update, proof, 0);
        _challenge(update);
        // Challenged in the one round, not in the other.
        _refuses(
            _lead,
            abi.encodeCall(_rounds.answerChallenge, (_task, 1, _digestOf(update), 0, 3, proof)),
            abi.encodeWithSelector(
                Omissions.OmissionsNotOpen.selector, _task, 1, _digestOf(update), 0
            )
        );
    }

    function test_AnAnswerIsGivenUpToTheEndOfItsWindowAndNoLater() public {
        Submissions.ModelUpdate memory update = _sealedAmongTwo();
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf("other", 1, 0);
        _challenge(update);
        uint256 end = block.timestamp + _WINDOW + _RESPONSE;
        VM.warp(end + 1);
        _refuses(
            _lead,
            abi.encodeCall(_rounds.answerChallenge, (_task, 2, _digestOf(update), 0, 3, proof)),
            abi.encodeWithSelector(Omissions.OmissionsTooLate.selector, _task, 2, end, end + 1)
        );
        VM.warp(end);
        _rounds.answerChallenge(_task, 2, _digestOf(update), 0, 3, proof);
    }

    function test_AnUnavailableUpdateIsDeclaredInPublicAndTheBondGoesBack() public {
        _challenge(_submitted, "");
        VM.expectEmit();
        emit Omissions.UpdateUnavailable(_task, 1, _org(1), _digest1);
        VM.prank(_lead);
        _rounds.answerUnavailable(_task, 1, _org(1));
        _expectChallenge(_digest1, Omissions.ChallengeState.Unavailable, false);
        assert(_rounds.creditOf(_STRANGER) == _BOND && _rounds.creditOf(_lead) == 0);
        assert(_rounds.getRound(_task, 1).openChallenges == 0);
        _refusedUnavailable(
            abi.encodeWithSelector(Omissions.OmissionsNotOpen.selector, _task, 1, _digest1, 3)
        );
    }

    function test_WhatTheCoordinatorReceiptedIsNotUnavailable() public {
        _challenge(_submitted);
        _refusedUnavailable(_receiptGiven(_digest1));
    }

    function test_WhatIsNotChallengedIsNotDeclaredUnavailable() public {
        bytes4 selector = Omissions.OmissionsNotOpen.selector;
        _refusedUnavailable(abi.encodeWithSelector(selector, _task, 1, _digest1, 0));
        // Challenged, but by a receipt: the organization submitted nothing on the chain.
        _challenge(_received);
        _refuses(
            _lead,
            abi.encodeCall(_rounds.answerUnavailable, (_task, 1, _org(0))),
            abi.encodeWithSelector(selector, _task, 1, 0, 0)
        );
    }

    function test_AnUpdateIsDeclaredUnavailableUpToTheEndOfTheWindowAndNoLater() public {
        _challenge(_submitted, "");
        uint256 end = block.timestamp + _WINDOW + _RESPONSE;
        VM.warp(end + 1);
        _refusedUnavailable(
            abi.encodeWithSelector(Omissions.OmissionsTooLate.selector, _task, 1, end, end + 1)
        );
        VM.warp(end);
        VM.prank(_lead);
        _rounds.answerUnavailable(_task, 1, _org(1));
    }

    /// @dev Windows as wide as they come neither overflow nor let anything happen early.
    function testFuzz_ChallengesAndAnswersKeepToTheirWindows(
        uint32 challengeWindow,
        uint32 responseWindow,
        uint40 challenged,
        uint40 answered
    ) public {
        VM.assume(challengeWindow != 0 && responseWindow != 0);
        VM.prank(_lead);
        _task = _rounds.openTask("fuzz", _GENESIS, challengeWindow, responseWindow, _BOND);
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        _sealedWith(1, update);
        uint256 end = block.timestamp + challengeWindow;
        bytes memory call = _callOf(update, _receipt(update));
        VM.warp(block.timestamp + uint256(challenged) % (2 * uint256(challengeWindow)));
        bool inTime = block.timestamp <= end;
        assert(_succeeds(_STRANGER, _BOND, call) == inTime);
        if (!inTime) return;
        end += responseWindow;
        VM.warp(block.timestamp + uint256(answered) % (2 * (end - block.timestamp + 1)));
        inTime = block.timestamp <= end;
        call = abi.encodeCall(
            _rounds.answerChallenge, (_task, 1, _digestOf(update), 0, 0, new bytes32[](0))
        );
        assert(_succeeds(_STRANGER, 0, call) == inTime);
        call = abi.encodeCall(_rounds.dispute, (_task, 1));
        assert(_succeeds(_STRANGER, 0, call) == !inTime);
    }

    /// @dev Seals round 2 with the submitted update of organization 1, rejected with verdict 3.
    function _sealedAmongTwo() private returns (Submissions.ModelUpdate memory update) {
        _open(2);
        update = _update(1, 2);
        VM.prank(_key(1));
        _rounds.submitDirect(update);
        bytes32 left = _leaf(_digestOf(update), 0, 3);
        bytes32 right = _leaf("other", 1, 0);
        if (left > right) (left, right) = (right, left);
        _seal(2, keccak256(bytes.concat(left, right)), 2);
    }

    function _succeeds(address caller, uint256 value, bytes memory call)
        private
        returns (bool success)
    {
        VM.prank(caller);
        (success,) = address(_rounds).call{value: value}(call);
    }

    function _refusedChallenge(
        Submissions.ModelUpdate memory update,
        bytes memory receipt,
        bytes memory reason
    ) private {
        _refuses(_STRANGER, _BOND, _callOf(update, receipt), reason);
    }

    function _refusedUnavailable(bytes memory reason) private {
        _refuses(_lead, abi.encodeCall(_rounds.answerUnavailable, (_task, 1, _org(1))), reason);
    }

    function _refusedAnswer(
        Submissions.ModelUpdate memory update,
        bytes32[] memory proof,
        uint8 state
    ) private {
        _refuses(
            _lead,
            abi.encodeCall(_rounds.answerChallenge, (_task, 2, _digestOf(update), 0, 3, proof)),
            abi.encodeWithSelector(
                Omissions.OmissionsNotOpen.selector, _task, 2, _digestOf(update), state
            )
        );
    }

    function _refusedInPhase(uint64 round) private {
        Submissions.ModelUpdate memory update = _update(0, round);
        bytes memory call = _callOf(update, _receipt(update));
        _refusesPhase(_STRANGER, _BOND, call, round, IRounds.Phase.Sealed);
    }

    function _expectChallenge(bytes32 digest, Omissions.ChallengeState state, bool byReceipt)
        private
        view
    {
        Omissions.Challenge memory challenge = _rounds.challengeOf(_task, 1, digest);
        assert(challenge.challenger == _STRANGER && challenge.byReceipt == byReceipt);
        assert(challenge.state == state);
    }

    function _callOf(Submissions.ModelUpdate memory update, bytes memory receipt)
        private
        view
        returns (bytes memory)
    {
        return abi.encodeCall(_rounds.challengeOmission, (update, receipt));
    }

    function _already(bytes32 digest, uint8 state) private view returns (bytes memory) {
        bytes4 selector = Omissions.OmissionsAlreadyChallenged.selector;
        return abi.encodeWithSelector(selector, _task, 1, digest, state);
    }

    function _receiptGiven(bytes32 digest) private view returns (bytes memory) {
        return abi.encodeWithSelector(Omissions.OmissionsReceiptGiven.selector, _task, 1, digest);
    }
}
