// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PAUSER} from "../contracts/IRegistry.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Registry} from "../contracts/Registry.sol";
import {Omissions} from "../contracts/Omissions.sol";
import {Rounds} from "../contracts/Rounds.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev Pausing stops the opening of rounds and nothing else.
contract RoundsPausingTest is RoundsFixture {
    function test_OnlyAPauserPausesAndUnpauses() public {
        bytes4 selector = Rounds.RoundsMissingRole.selector;
        bytes memory refused = abi.encodeWithSelector(selector, PAUSER, _lead);
        _refuses(_lead, abi.encodeCall(_rounds.pause, ()), refused);
        _refuses(_lead, abi.encodeCall(_rounds.unpause, ()), refused);
        _executed(_ofRole(Registry.Kind.RevokeRole, PAUSER, _PAUSER));
        refused = abi.encodeWithSelector(selector, PAUSER, _PAUSER);
        _refuses(_PAUSER, abi.encodeCall(_rounds.pause, ()), refused);
    }

    function test_PausingAndUnpausingAreTold() public {
        assert(!_rounds.paused());
        VM.expectEmit();
        emit Rounds.Paused(_PAUSER);
        _pause();
        assert(_rounds.paused());
        VM.expectEmit();
        emit Rounds.Unpaused(_PAUSER);
        VM.prank(_PAUSER);
        _rounds.unpause();
        assert(!_rounds.paused());
    }

    function test_NothingIsPausedTwiceNorUnpausedTwice() public {
        bytes4 selector = Rounds.RoundsPauseUnchanged.selector;
        _refuses(
            _PAUSER, abi.encodeCall(_rounds.unpause, ()), abi.encodeWithSelector(selector, false)
        );
        _pause();
        _refuses(
            _PAUSER, abi.encodeCall(_rounds.pause, ()), abi.encodeWithSelector(selector, true)
        );
    }

    function test_NoRoundIsOpenedWhilePausedAndOneIsAfterwards() public {
        _pause();
        _refuses(
            _lead,
            abi.encodeCall(_rounds.openRound, (_task, 1, _GENESIS)),
            abi.encodeWithSelector(Rounds.RoundsArePaused.selector)
        );
        VM.prank(_PAUSER);
        _rounds.unpause();
        _open(1);
        assert(_phase(1) == IRounds.Phase.Open);
    }

    function test_WhilePausedATaskIsOpenedAndARoundVoided() public {
        _open(1);
        _pause();
        _openedTask("other");
        _void(1);
        assert(_phase(1) == IRounds.Phase.Void);
    }

    function test_WhilePausedARoundRunsToItsFinality() public {
        _open(1);
        _pause();
        Submissions.ModelUpdate memory update = _update(0, 1);
        VM.prank(_key(0));
        _rounds.submitDirect(update);
        Submissions.ModelUpdate memory signed = _update(1, 1);
        _rounds.submitBySig(signed, _signed(_secret(1), _digestOf(signed)));
        _sealedWith(1, update);
        _challenge(update);
        _rounds.answerChallenge(_task, 1, _digestOf(update), 0, 0, new bytes32[](0));
        _challenge(signed, "");
        VM.prank(_lead);
        _rounds.answerUnavailable(_task, 1, _org(1));
        _finalize(1);
        assert(_phase(1) == IRounds.Phase.Final);
    }

    function test_WhilePausedBondsGoBackAndAreWithdrawn() public {
        _open(1);
        _pause();
        Submissions.ModelUpdate memory update = _update(0, 1);
        _seal(1);
        _challenge(update);
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 1);
        _rounds.refundBond(_task, 1, _digestOf(update));
        VM.prank(_STRANGER);
        _rounds.withdraw();
        assert(_STRANGER.balance == 100 ether && address(_rounds).balance == 0);
        Omissions.Challenge memory challenge =
            _rounds.challengeOf(_task, 1, _digestOf(update));
        assert(challenge.state == Omissions.ChallengeState.Upheld);
    }

    function _pause() private {
        VM.prank(_PAUSER);
        _rounds.pause();
    }
}
