// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RewardsFixture} from "./RewardsFixture.sol";

/// @dev What funding and claiming cost, the money's way to a key that held nothing included. Each
/// is a whole transaction under `--gas-stats`, and less without its fixed costs.
contract RewardsGasTest is RewardsFixture {
    function test_TheFirstFundingOfATaskCostsLessThan70000() public {
        uint256 before = gasleft();
        _rewards.fund{value: 1 ether}(_TASK);
        assert(before - gasleft() < 70_000);
    }

    function test_AnotherFundingCostsLessThan45000() public {
        _rewards.fund{value: 1 ether}(_TASK);
        uint256 before = gasleft();
        _rewards.fund{value: 1 ether}(_TASK);
        assert(before - gasleft() < 45_000);
    }

    function test_TheFirstClaimOfATaskCostsLessThan145000() public {
        assert(_gasOf(_funded(4), 1) < 145_000);
    }

    function test_TheFirstClaimOfAnotherOrganizationCostsLessThan125000() public {
        uint256[] memory amounts = _funded(4);
        _bring(_claim(1, amounts, 0));
        assert(_gasOf(amounts, 1) < 125_000);
    }

    function test_TheFirstClaimAmongAThousandCostsLessThan155000() public {
        assert(_gasOf(_funded(1000), 1) < 155_000);
    }

    function test_ALaterClaimOfTheSameOrganizationCostsLessThan85000() public {
        uint256[] memory amounts = _funded(4);
        _bring(_claim(1, amounts, 1));
        for (uint256 i = 0; i < 4; ++i) amounts[i] += 1 ether;
        _final(2, amounts);
        Claim memory claim = _claim(2, amounts, 1);
        uint256 before = gasleft();
        _bring(claim);
        assert(before - gasleft() < 85_000);
    }

    function _funded(uint256 count) private returns (uint256[] memory amounts) {
        amounts = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) amounts[i] = 1 ether;
        _final(1, amounts);
        _rewards.fund{value: (count + 10) * 1 ether}(_TASK);
    }

    function _gasOf(uint256[] memory amounts, uint256 number) private returns (uint256) {
        Claim memory claim = _claim(1, amounts, number);
        uint256 before = gasleft();
        _bring(claim);
        return before - gasleft();
    }
}
