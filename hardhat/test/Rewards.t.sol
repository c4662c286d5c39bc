// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IRegistry} from "../contracts/IRegistry.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Rewards} from "../contracts/Rewards.sol";
import {VM} from "./Cheats.sol";
import {RewardsFixture} from "./RewardsFixture.sol";

/// @dev What funding and claiming do, and every reason for which they are refused.
contract RewardsTest is RewardsFixture {
    function test_TheConstructorRefusesARegistryThatIsNoContract() public {
        VM.expectRevert(
            abi.encodeWithSelector(Rewards.RewardsNoRegistry.selector, address(0xBEEF))
        );
        new Rewards(IRegistry(address(0xBEEF)), _rounds);
    }

    function test_TheConstructorRefusesRoundsThatAreNoContract() public {
        VM.expectRevert(abi.encodeWithSelector(Rewards.RewardsNoRounds.selector, address(0xBEEF)));
        new Rewards(_registry, IRounds(address(0xBEEF)));
    }

    function test_TheConstructorKeepsWhereToLookUp() public view {
        assert(address(_rewards.REGISTRY()) == address(_registry));
        assert(address(_rewards.ROUNDS()) == address(_rounds));
    }

    function test_FundRefusesAnUnknownTask() public {
        bytes32 unknown = keccak256("unknown");
        VM.expectRevert(abi.encodeWithSelector(Rewards.RewardsUnknownTask.selector, unknown));
        _rewards.fund{value: 1}(unknown);
    }

    function test_FundRefusesNothing() public {
        VM.expectRevert(abi.encodeWithSelector(Rewards.RewardsNoValue.selector, _TASK));
        _rewards.fund(_TASK);
    }

    function test_FundRefusesMoreThanFitsAndTakesAllThatFits() public {
        VM.deal(address(this), type(uint256).max);
        _rewards.fund{value: type(uint128).max - 1}(_TASK);
        VM.expectRevert(
            abi.encodeWithSelector(
                SafeCast.SafeCastOverflowedUintDowncast.selector, 128, uint256(1) << 128
            )
        );
        _rewards.fund{value: 2}(_TASK);
        _rewards.fund{value: 1}(_TASK);
        assert(_rewards.fundedOf(_TASK) == type(uint128).max);
    }

    function test_FundTakesFromAnyoneAndAddsUp() public {
        VM.deal(address(0xF1), 5);
        VM.expectEmit();
        emit Rewards.Funded(_TASK, address(0xF1), 5);
        VM.prank(address(0xF1));
        _rewards.fund{value: 5}(_TASK);
        VM.expectEmit();
        emit Rewards.Funded(_TASK, address(this), 7);
        _rewards.fund{value: 7}(_TASK);
        assert(_rewards.fundedOf(_TASK) == 12);
        assert(_rewards.fundedOf(_OTHER_TASK) == 0);
        assert(address(_rewards).balance == 12);
    }

    function test_MoneyThatNamesNoTaskIsNotTaken() public {
        (bool taken,) = address(_rewards).call{value: 1}("");
        assert(!taken);
    }

    function test_AClaimPaysWhatWasEarnedToTheKeyWhoeverBringsIt() public {
        Claim memory claim = _ready();
        VM.expectEmit();
        emit Rewards.RewardPaid(_TASK, _org(1), _key(1), 1, 20, 20);
        VM.prank(address(0xBEEF));
        uint256 payout = _bring(claim);
        assert(payout == 20);
        assert(_key(1).balance == 20 && address(0xBEEF).balance == 0);
        assert(_rewards.claimedOf(_TASK, _org(1)) == 20);
        assert(_rewards.claimedOf(_TASK, _org(0)) == 0);
        assert(_rewards.claimedOf(_OTHER_TASK, _org(1)) == 0);
        assert(_rewards.paidOf(_TASK) == 20);
        assert(_rewards.highestTotalOf(_TASK) == 100);
        assert(address(_rewards).balance == 80);
    }

    function test_AClaimOfALaterRoundPaysOnlyTheRest() public {
        _bring(_ready());
        _rewards.fund{value: 50}(_TASK);
        uint256[] memory later = _amounts(20, 35, 45, 50);
        _final(2, later);
        VM.expectEmit();
        emit Rewards.RewardPaid(_TASK, _org(1), _key(1), 2, 35, 15);
        assert(_bring(_claim(2, later, 1)) == 15);
        assert(_key(1).balance == 35);
        assert(_rewards.claimedOf(_TASK, _org(1)) == 35);
        assert(_rewards.paidOf(_TASK) == 35);
        assert(_rewards.highestTotalOf(_TASK) == 150);
    }

    function test_AnEarlierRoundStillPaysAfterOthersClaimedUnderALaterOne() public {
        _ready();
        _rewards.fund{value: 100}(_TASK);
        uint256[] memory later = _amounts(10, 20, 30, 140);
        _final(2, later);
        _bring(_claim(2, later, 3));
        assert(_rewards.paidOf(_TASK) == 140);
        assert(_bring(_claim(1, _amounts(10, 20, 30, 40), 1)) == 20);
        assert(_rewards.highestTotalOf(_TASK) == 200);
    }

    function test_EverybodyIsPaidInFull() public {
        _ready();
        for (uint256 i = 0; i < 4; ++i) {
            _bring(_claim(1, _amounts(10, 20, 30, 40), i));
            assert(_key(i).balance == 10 * (i + 1));
        }
        assert(_rewards.paidOf(_TASK) == 100);
        assert(address(_rewards).balance == 0);
    }

    function test_AClaimUnderASingleLeafNeedsNoProof() public {
        uint256[] memory alone = new uint256[](1);
        alone[0] = 7;
        _final(1, alone);
        _rewards.fund{value: 7}(_TASK);
        assert(_bring(_claim(1, alone, 0)) == 7);
    }

    function test_ClaimRefusesARoundInAnyPhaseButFinal() public {
        Claim memory claim = _ready();
        bytes32 record = _rounds.recordOf(_TASK, 1);
        for (uint8 phase = 0; phase < 5; ++phase) {
            _rounds.setRound(_TASK, 1, IRounds.Phase(phase), record);
            bytes memory refused =
                abi.encodeWithSelector(Rewards.RewardsNotFinal.selector, _TASK, 1, phase);
            _refuse(refused, claim);
        }
        _rounds.setRound(_TASK, 1, IRounds.Phase.Final, record);
        _bring(claim);
    }

    function test_ClaimRefusesWhatTheRoundWasNotSealedWith() public {
        Claim memory claim = _ready();
        bytes32 stored = _rounds.recordOf(_TASK, 1);
        claim.rewardsTotal = 99;
        bytes32 given = keccak256(abi.encode(_MANIFEST, claim.rewardsRoot, 99));
        _refuse(
            abi.encodeWithSelector(Rewards.RewardsWrongRecord.selector, _TASK, 1, given, stored),
            claim
        );
    }

    function test_ClaimRefusesAnAmountThatIsNotUnderTheRoot() public {
        Claim memory claim = _ready();
        claim.amount = 21;
        bytes memory refused =
            abi.encodeWithSelector(Rewards.RewardsNotIncluded.selector, _TASK, _org(1), 21);
        _refuse(refused, claim);
    }

    function test_ClaimRefusesATaskThatWasGivenLessThanTheTotalUntilItIsGivenMore() public {
        uint256[] memory amounts = _amounts(10, 20, 30, 40);
        _final(1, amounts);
        _rewards.fund{value: 99}(_TASK);
        _rewards.fund{value: 1000}(_OTHER_TASK);
        bytes memory refused =
            abi.encodeWithSelector(Rewards.RewardsUnderfunded.selector, _TASK, 100, 99);
        _refuse(refused, _claim(1, amounts, 1));
        _rewards.fund{value: 1}(_TASK);
        _bring(_claim(1, amounts, 1));
    }

    function test_ClaimRefusesTheSameClaimAgain() public {
        Claim memory claim = _ready();
        _bring(claim);
        bytes memory refused = abi.encodeWithSelector(
            Rewards.RewardsNothingToClaim.selector, _TASK, _org(1), 20, 20
        );
        _refuse(refused, claim);
    }

    function test_ClaimRefusesTheSameAmountUnderAnotherRound() public {
        _bring(_ready());
        uint256[] memory later = _amounts(40, 20, 0, 40);
        _final(2, later);
        bytes memory refused = abi.encodeWithSelector(
            Rewards.RewardsNothingToClaim.selector, _TASK, _org(1), 20, 20
        );
        _refuse(refused, _claim(2, later, 1));
    }

    function test_ClaimRefusesALowerAmountThanWasPaid() public {
        _bring(_ready());
        uint256[] memory later = _amounts(41, 19, 0, 40);
        _final(2, later);
        bytes memory refused = abi.encodeWithSelector(
            Rewards.RewardsNothingToClaim.selector, _TASK, _org(1), 19, 20
        );
        _refuse(refused, _claim(2, later, 1));
    }

    function test_ClaimRefusesNothing() public {
        uint256[] memory amounts = _amounts(0, 1, 1, 1);
        _final(1, amounts);
        _rewards.fund{value: 3}(_TASK);
        bytes memory refused =
            abi.encodeWithSelector(Rewards.RewardsNothingToClaim.selector, _TASK, _org(0), 0, 0);
        _refuse(refused, _claim(1, amounts, 0));
    }

    function test_ClaimRefusesAnOrganizationThatNeverWasAMember() public {
        uint256[] memory amounts = new uint256[](5);
        amounts[4] = 5;
        _final(1, amounts);
        _rewards.fund{value: 5}(_TASK);
        bytes memory refused = abi.encodeWithSelector(Rewards.RewardsNoKey.selector, _org(4));
        _refuse(refused, _claim(1, amounts, 4));
        _executed(_admission(4, 0, _K));
        assert(_bring(_claim(1, amounts, 4)) == 5);
        assert(_key(4).balance == 5);
    }

    function test_ClaimRefusesToPayMoreThanTheTotalOverAllOrganizations() public {
        uint256[] memory amounts = _amounts(60, 40, 1, 30);
        _final(1, amounts, 100);
        _rewards.fund{value: 1000}(_TASK);
        _bring(_claim(1, amounts, 100, 0));
        _bring(_claim(1, amounts, 100, 3));
        bytes memory refused =
            abi.encodeWithSelector(Rewards.RewardsOverdrawn.selector, _TASK, 90, 40, 100);
        _refuse(refused, _claim(1, amounts, 100, 1));
        _bring(_claim(1, amounts, 100, 2));
        assert(_rewards.paidOf(_TASK) == 91);
    }

    function test_ATotalThatFallsDoesNotLowerTheHighest() public {
        _bring(_ready());
        uint256[] memory later = _amounts(15, 0, 0, 0);
        _final(2, later);
        assert(_bring(_claim(2, later, 0)) == 15);
        assert(_rewards.highestTotalOf(_TASK) == 100);
    }

    function test_NothingIsRememberedOfARefusedClaim() public {
        uint256[] memory amounts = _amounts(60, 41, 0, 0);
        _final(1, amounts, 50);
        _rewards.fund{value: 1000}(_TASK);
        bytes memory refused =
            abi.encodeWithSelector(Rewards.RewardsOverdrawn.selector, _TASK, 0, 60, 50);
        _refuse(refused, _claim(1, amounts, 50, 0));
        assert(_rewards.highestTotalOf(_TASK) == 0);
        assert(_rewards.claimedOf(_TASK, _org(0)) == 0);
        assert(_rewards.paidOf(_TASK) == 0);
    }

    function testFuzz_ALeafIsHashedTwiceOverItsFields(bytes32 task, bytes32 name, uint256 amount)
        public
        view
    {
        assert(_rewards.leafOf(task, name, amount) == _leaf(task, name, amount));
    }

    /// @dev A funded task whose first round earned 10, 20, 30 and 40; the claim of organization 1.
    function _ready() private returns (Claim memory) {
        uint256[] memory amounts = _amounts(10, 20, 30, 40);
        _final(1, amounts);
        _rewards.fund{value: 100}(_TASK);
        return _claim(1, amounts, 1);
    }
}
