// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Rewards} from "../contracts/Rewards.sol";
import {VM} from "./Cheats.sol";
import {RewardsFixture} from "./RewardsFixture.sol";

/// @dev What holds for any amounts and any order of claims.
contract RewardsFuzzTest is RewardsFixture {
    uint64 private constant _ROUNDS = 5;

    /// @dev Where amounts never fall and add up to the totals, no claim of anybody, old or new,
    /// keeps anybody else from being paid in full.
    function testFuzz_HonestRoundsPayEverybodyInFullInAnyOrder(
        uint64[4][5] memory increments,
        uint256 order
    ) public {
        uint256[][] memory rounds = _honest(increments);
        for (uint256 i = 0; i < 12; ++i) {
            uint256 round = (order >> (8 * i)) % _ROUNDS;
            uint256 number = (order >> (8 * i + 4)) % 4;
            uint256 had = _rewards.claimedOf(_TASK, _org(number));
            uint256 earned = rounds[round][number];
            if (earned <= had) continue;
            assert(_claimed(uint64(round), rounds[round], number) == earned - had);
        }
        for (uint256 number = 0; number < 4; ++number) {
            uint256 had = _rewards.claimedOf(_TASK, _org(number));
            uint256 earned = rounds[_ROUNDS - 1][number];
            if (earned > had) _claimed(_ROUNDS - 1, rounds[_ROUNDS - 1], number);
            assert(_key(number).balance == earned);
        }
        assert(address(_rewards).balance == 0);
    }

    /// @dev However the amounts and the total of a round relate, and whoever comes first.
    function testFuzz_NoMoreThanTheTotalIsEverPaid(
        uint64[4] memory earned,
        uint256 total,
        uint256 funding,
        uint8 first
    ) public {
        uint256[] memory amounts = _amounts(earned[0], earned[1], earned[2], earned[3]);
        total %= _total(amounts) + 2;
        funding = funding % 1e21 + 1;
        _final(1, amounts, total);
        _rewards.fund{value: funding}(_TASK);
        uint256 paid = 0;
        for (uint256 i = 0; i < 4; ++i) {
            uint256 number = (first + i) % 4;
            Claim memory claim = _claim(1, amounts, total, number);
            bool due = amounts[number] != 0 && total <= funding && paid + amounts[number] <= total;
            try this.brought(claim) {
                assert(due);
                paid += amounts[number];
            } catch {
                assert(!due);
            }
        }
        assert(paid <= total && _rewards.paidOf(_TASK) == paid);
        assert(address(_rewards).balance == funding - paid);
    }

    function testFuzz_ATaskPaysFromItsOwnFundingOnly(uint64 own, uint64 foreign, uint64 earned)
        public
    {
        uint256[] memory amounts = _amounts(earned, 0, 0, 0);
        _final(1, amounts);
        _rewards.fund{value: uint256(own) + 1}(_TASK);
        _rewards.fund{value: uint256(foreign) + 1}(_OTHER_TASK);
        bool due = earned != 0 && earned <= uint256(own) + 1;
        if (!due) {
            VM.expectRevert(
                earned == 0
                    ? abi.encodeWithSelector(
                        Rewards.RewardsNothingToClaim.selector, _TASK, _org(0), 0, 0
                    )
                    : abi.encodeWithSelector(
                        Rewards.RewardsUnderfunded.selector, _TASK, earned, uint256(own) + 1
                    )
            );
        }
        _bring(_claim(1, amounts, 0));
        assert(_key(0).balance == (due ? earned : 0));
        assert(_rewards.fundedOf(_OTHER_TASK) == uint256(foreign) + 1);
    }

    function brought(Claim calldata claim) external {
        _bring(claim);
    }

    function _claimed(uint64 round, uint256[] memory amounts, uint256 number)
        private
        returns (uint256)
    {
        return _bring(_claim(round, amounts, number));
    }

    /// @dev Final rounds 0 to 4, each with what the last had and some more, all of it funded.
    function _honest(uint64[4][5] memory increments) private returns (uint256[][] memory rounds) {
        rounds = new uint256[][](_ROUNDS);
        for (uint64 i = 0; i < _ROUNDS; ++i) {
            rounds[i] = new uint256[](4);
            for (uint256 j = 0; j < 4; ++j) {
                rounds[i][j] = (i == 0 ? 0 : rounds[i - 1][j]) + increments[i][j];
            }
            _final(i, rounds[i]);
        }
        uint256 total = _total(rounds[_ROUNDS - 1]);
        if (total != 0) _rewards.fund{value: total}(_TASK);
    }
}
