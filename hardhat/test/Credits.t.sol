// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Credits} from "../contracts/Credits.sol";
import {Rounds} from "../contracts/Rounds.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev An account that asks for more while it is being paid.
contract GreedyAccount {
    Rounds private immutable _ROUNDS;
    bool public refusedTwice;
    bool public accepts = true;

    constructor(Rounds rounds) {
        _ROUNDS = rounds;
    }

    receive() external payable {
        require(accepts);
        (bool paidAgain,) = address(_ROUNDS).call(abi.encodeCall(_ROUNDS.withdraw, ()));
        refusedTwice = !paidAgain;
    }

    function setAccepts(bool accepts_) external {
        accepts = accepts_;
    }
}

/// @dev What accounts are owed, and how they fetch it.
contract CreditsTest is RoundsFixture {
    function test_AnAccountFetchesAllThatItIsOwedAtOnce() public {
        _owe(2);
        assert(_rounds.creditOf(_lead) == 2 * uint256(_BOND));
        VM.expectEmit();
        emit Credits.Withdrawn(_lead, 2 * uint256(_BOND));
        VM.prank(_lead);
        _rounds.withdraw();
        assert(_lead.balance == _LEAD_MONEY + 2 * uint256(_BOND));
        assert(_rounds.creditOf(_lead) == 0 && address(_rounds).balance == 0);
    }

    function test_ACreditIsTold() public {
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        _sealedWith(1, update);
        _challenge(update);
        VM.expectEmit();
        emit Credits.Credited(_lead, _BOND);
        _rounds.answerChallenge(_task, 1, _digestOf(update), 0, 0, new bytes32[](0));
    }

    function test_WhoIsOwedNothingFetchesNothing() public {
        _owe(1);
        bytes memory call = abi.encodeCall(_rounds.withdraw, ());
        bytes4 selector = Credits.CreditsNothingOwed.selector;
        _refuses(_STRANGER, call, abi.encodeWithSelector(selector, _STRANGER));
        VM.prank(_lead);
        _rounds.withdraw();
        _refuses(_lead, call, abi.encodeWithSelector(selector, _lead));
    }

    function test_NobodyIsPaidTwiceByAskingAgainWhileBeingPaid() public {
        GreedyAccount greedy = _greedyChallenger();
        VM.prank(address(greedy));
        _rounds.withdraw();
        assert(greedy.refusedTwice());
        assert(address(greedy).balance == _BOND && address(_rounds).balance == _BOND);
        assert(_rounds.creditOf(address(greedy)) == 0);
    }

    function test_WhoRefusesItsMoneyKeepsItsCreditAndHoldsUpNobody() public {
        GreedyAccount greedy = _greedyChallenger();
        greedy.setAccepts(false);
        _refuses(
            address(greedy),
            abi.encodeCall(_rounds.withdraw, ()),
            abi.encodeWithSelector(
                Credits.CreditsTransferFailed.selector, address(greedy), _BOND
            )
        );
        assert(_rounds.creditOf(address(greedy)) == _BOND);
        VM.prank(_lead);
        _rounds.withdraw();
        assert(_lead.balance == _LEAD_MONEY + _BOND);
        greedy.setAccepts(true);
        VM.prank(address(greedy));
        _rounds.withdraw();
        assert(address(greedy).balance == _BOND);
    }

    function test_MoneySentWithoutAChallengeIsRefused() public {
        VM.prank(_STRANGER);
        (bool taken,) = address(_rounds).call{value: 1}("");
        assert(!taken && address(_rounds).balance == 0);
    }

    /// @dev Answers one challenge in each of the next rounds.
    function _owe(uint64 rounds) private {
        for (uint64 round = 1; round <= rounds; ++round) {
            _open(round);
            Submissions.ModelUpdate memory update = _update(0, round);
            _sealedWith(round, update);
            _challenge(update);
            bytes32 digest = _digestOf(update);
            _rounds.answerChallenge(_task, round, digest, 0, 0, new bytes32[](0));
        }
    }

    /// @dev Owes the coordinator one bond, and another to an account that is a contract.
    function _greedyChallenger() private returns (GreedyAccount greedy) {
        _owe(1);
        greedy = new GreedyAccount(_rounds);
        VM.deal(address(greedy), _BOND);
        Submissions.ModelUpdate memory update = _sealedWithout(2);
        bytes memory receipt = _receipt(update);
        VM.prank(address(greedy));
        _rounds.challengeOmission{value: _BOND}(update, receipt);
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 2);
        _rounds.refundBond(_task, 2, _digestOf(update));
    }
}
