// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "../contracts/Attestors.sol";
import {Unlearning} from "../contracts/Unlearning.sol";
import {VM} from "./Cheats.sol";
import {UnlearningFixture} from "./UnlearningFixture.sol";

/// @dev What asking and its outcomes cost, the tests' own call included. Each is a whole
/// transaction under `--gas-stats`, and less without its fixed costs.
contract UnlearningGasTest is UnlearningFixture {
    function test_ARequestCostsLessThan150000() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes memory signature = _signed(_secret(_ASKING), _digest(wanted));
        uint256 before = gasleft();
        _unlearning.request(wanted, signature);
        assert(before - gasleft() < 150_000);
    }

    function test_ARequestOfAnOrganizationThatLeftCostsLessThan150000() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes memory signature = _signed(_secret(_ASKING), _digest(wanted));
        _departed(_ASKING);
        uint256 before = gasleft();
        _unlearning.request(wanted, signature);
        assert(before - gasleft() < 150_000);
    }

    function test_ACompletionByTwoCostsLessThan135000() public {
        bytes32 id = _requested();
        Unlearning.Completion memory completion = _completion();
        Attestors.Approval[] memory approvals = _attested(id, completion, 2);
        uint256 before = gasleft();
        _unlearning.complete(id, completion, approvals);
        assert(before - gasleft() < 135_000);
    }

    function test_ACompletionByThreeCostsLessThan155000() public {
        bytes32 id = _requested();
        Unlearning.Completion memory completion = _completion();
        Attestors.Approval[] memory approvals = _attested(id, completion, 3);
        uint256 before = gasleft();
        _unlearning.complete(id, completion, approvals);
        assert(before - gasleft() < 155_000);
    }

    function test_ARejectionCostsLessThan70000() public {
        bytes32 id = _requested();
        VM.prank(_COORDINATOR);
        uint256 before = gasleft();
        _unlearning.reject(id, 1, keccak256("details"));
        assert(before - gasleft() < 70_000);
    }

    function test_ACancellationCostsLessThan60000() public {
        bytes32 id = _requested();
        bytes memory signature = _signed(_secret(_ASKING), _cancelDigest(id));
        uint256 before = gasleft();
        _unlearning.cancel(id, signature);
        assert(before - gasleft() < 60_000);
    }
}
