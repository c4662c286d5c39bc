// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Rewards} from "../contracts/Rewards.sol";
import {VM} from "./Cheats.sol";
import {RewardsFixture} from "./RewardsFixture.sol";

/// @dev A key with code, as a plain account may have by EIP-7702: it makes a call whenever it is
/// paid.
contract CallingKey {
    address private _target;
    bytes private _data;
    uint256 public attempts;
    bool public succeeded;
    bytes public answer;

    receive() external payable {
        if (attempts++ == 0) (succeeded, answer) = _target.call(_data);
    }

    function prepare(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }
}

/// @dev A key that gives all it is paid back to the task.
contract FundingKey {
    Rewards private _rewards;
    bytes32 private _task;

    receive() external payable {
        _rewards.fund{value: msg.value}(_task);
    }

    function prepare(Rewards rewards, bytes32 task) external {
        (_rewards, _task) = (rewards, task);
    }
}

/// @dev A key that takes no money, and says so at length.
contract RefusingKey {
    receive() external payable {
        assembly ("memory-safe") {
            revert(0, 100000)
        }
    }
}

/// @dev A key that takes the money and answers with much more than anybody asked for.
contract VerboseKey {
    receive() external payable {
        assembly ("memory-safe") {
            return(0, 100000)
        }
    }
}

/// @dev Whom a claim pays: the organization's present or last key, whatever code it has.
contract RewardsRecipientsTest is RewardsFixture {
    function test_AClaimPaysTheKeyThatTheOrganizationRotatedTo() public {
        Claim memory claim = _ready(1);
        VM.roll(101);
        _rotated(1, 0);
        _bring(claim);
        assert(_key(1, 1).balance == 20 && _key(1).balance == 0);
    }

    function test_AnOrganizationThatLeftIsStillPaid() public {
        Claim memory claim = _ready(3);
        VM.roll(101);
        _departed(3);
        assert(_registry.keyOf(_org(3)) == address(0));
        _bring(claim);
        assert(_key(3).balance == 40);
    }

    function test_AnOrganizationThatWasRemovedIsStillPaid() public {
        Claim memory claim = _ready(3);
        VM.roll(101);
        _executed(_removal(3, _K));
        _bring(claim);
        assert(_key(3).balance == 40);
    }

    function test_AnOrganizationThatCameBackIsPaidAtItsNewKey() public {
        Claim memory claim = _ready(3);
        VM.roll(101);
        _departed(3);
        VM.roll(102);
        _executed(_admission(3, 1, _K));
        _bring(claim);
        assert(_key(3, 1).balance == 40 && _key(3).balance == 0);
    }

    function test_AKeyThatClaimsAgainWhileItIsPaidGetsNothingMore() public {
        Claim memory claim = _ready(1);
        CallingKey key = _calling(1, claim);
        _bring(claim);
        assert(key.attempts() == 1 && !key.succeeded());
        bytes memory refused = abi.encodeWithSelector(
            Rewards.RewardsNothingToClaim.selector, _TASK, _org(1), 20, 20
        );
        assert(keccak256(key.answer()) == keccak256(refused));
        assert(address(key).balance == 20);
        assert(address(_rewards).balance == 80 && _rewards.paidOf(_TASK) == 20);
    }

    function test_AKeyThatClaimsALaterRoundWhileItIsPaidGetsTheRestOnce() public {
        Claim memory claim = _ready(1);
        uint256[] memory later = _amounts(10, 25, 30, 35);
        _final(2, later);
        CallingKey key = _calling(1, _claim(2, later, 1));
        _bring(claim);
        assert(key.attempts() == 2 && key.succeeded());
        assert(address(key).balance == 25);
        assert(_rewards.claimedOf(_TASK, _org(1)) == 25 && _rewards.paidOf(_TASK) == 25);
        assert(address(_rewards).balance == 75);
    }

    function test_AKeyThatClaimsForAnotherWhileItIsPaidOnlyPaysThatOne() public {
        Claim memory claim = _ready(1);
        CallingKey key = _calling(1, _claim(1, _amounts(10, 20, 30, 40), 2));
        _bring(claim);
        assert(key.succeeded());
        assert(address(key).balance == 20 && _key(2).balance == 30);
        assert(_rewards.paidOf(_TASK) == 50 && address(_rewards).balance == 50);
    }

    function test_AKeyThatFundsItsTaskWhileItIsPaidIsCountedOnce() public {
        Claim memory claim = _ready(1);
        VM.etch(_key(1), type(FundingKey).runtimeCode);
        FundingKey(payable(_key(1))).prepare(_rewards, _TASK);
        _bring(claim);
        assert(_rewards.fundedOf(_TASK) == 120 && _rewards.paidOf(_TASK) == 20);
        assert(address(_rewards).balance == 100);
    }

    function test_ARefusingKeyIsNotPaidAndMayClaimLater() public {
        Claim memory claim = _ready(1);
        VM.etch(_key(1), type(RefusingKey).runtimeCode);
        bytes memory refused =
            abi.encodeWithSelector(Rewards.RewardsNotTaken.selector, _org(1), _key(1), 20);
        _refuse(refused, claim);
        assert(_rewards.claimedOf(_TASK, _org(1)) == 0 && _rewards.paidOf(_TASK) == 0);
        assert(address(_rewards).balance == 100);
        _rotated(1, 0);
        _bring(claim);
        assert(_key(1, 1).balance == 20);
    }

    function test_ARefusingKeyDoesNotKeepOthersFromBeingPaid() public {
        _ready(1);
        VM.etch(_key(1), type(RefusingKey).runtimeCode);
        uint256[] memory amounts = _amounts(10, 20, 30, 40);
        _bring(_claim(1, amounts, 0));
        _bring(_claim(1, amounts, 2));
        _bring(_claim(1, amounts, 3));
        assert(_rewards.paidOf(_TASK) == 80);
    }

    function test_AnAnswerOfTheKeyIsNotCopiedAtTheCallersCost() public {
        Claim memory claim = _ready(1);
        _bring(_claim(1, _amounts(10, 20, 30, 40), 0));
        uint256 before = gasleft();
        _bring(_claim(1, _amounts(10, 20, 30, 40), 2));
        uint256 plain = before - gasleft();
        VM.etch(_key(1), type(VerboseKey).runtimeCode);
        before = gasleft();
        _bring(claim);
        // The key itself pays some 30,000 for the memory; the copy would cost that once more.
        assert(before - gasleft() < plain + 40_000);
        assert(_key(1).balance == 20);
    }

    /// @dev Blocks are the registry's finest grain: of a key that came and went within one there
    /// may be no trace. Nobody is paid then, rather than the zero address.
    function test_AnOrganizationThatCameAndWentWithinABlockIsNeverPaidAtZero() public {
        uint256[] memory amounts = new uint256[](5);
        amounts[4] = 5;
        _final(1, amounts);
        _rewards.fund{value: 5}(_TASK);
        _executed(_admission(4, 0, _K));
        _executed(_removal(4, _K));
        try this.brought(_claim(1, amounts, 4)) {
            assert(_key(4).balance == 5);
        } catch (bytes memory reason) {
            assert(keccak256(reason) == keccak256(_noKey(4)));
            assert(address(_rewards).balance == 5);
        }
        assert(address(0).balance == 0);
    }

    function brought(Claim calldata claim) external {
        _bring(claim);
    }

    function _noKey(uint256 number) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Rewards.RewardsNoKey.selector, _org(number));
    }

    /// @dev Gives an organization's key code that brings a claim whenever it is paid.
    function _calling(uint256 number, Claim memory c) private returns (CallingKey key) {
        VM.etch(_key(number), type(CallingKey).runtimeCode);
        key = CallingKey(payable(_key(number)));
        key.prepare(
            address(_rewards),
            abi.encodeCall(
                _rewards.claim,
                (
                    c.task,
                    c.round,
                    c.manifestHash,
                    c.rewardsRoot,
                    c.rewardsTotal,
                    c.organization,
                    c.amount,
                    c.proof
                )
            )
        );
    }

    /// @dev A funded task whose first round earned 10, 20, 30 and 40; an organization's claim.
    function _ready(uint256 number) private returns (Claim memory) {
        uint256[] memory amounts = _amounts(10, 20, 30, 40);
        _final(1, amounts);
        _rewards.fund{value: 100}(_TASK);
        return _claim(1, amounts, number);
    }
}
