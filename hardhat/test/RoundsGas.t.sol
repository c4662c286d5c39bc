// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {Attestors} from "../contracts/Attestors.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev What each call costs on fresh state, the tests' own call included. Each is a whole
/// transaction under `--gas-stats`, for which the bounds are made, and less without its fixed costs.
contract RoundsGasTest is RoundsFixture {
    function test_SealCostsTheSameForOneTenAndAThousandLeaves() public {
        uint256 one = _gasOfSeal("one", 1);
        uint256 ten = _gasOfSeal("ten", 10);
        uint256 thousand = _gasOfSeal("thousand", 1000);
        assert(_within1Percent(one, ten) && _within1Percent(one, thousand));
        assert(one < 115_000 && ten < 115_000 && thousand < 115_000);
    }

    function test_OpenTask() public {
        bytes memory call =
            abi.encodeCall(_rounds.openTask, ("other", _GENESIS, _WINDOW, _RESPONSE, _BOND));
        assert(_gasOf(_lead, 0, call) < 130_000);
    }

    function test_OpenRound() public {
        bytes memory call = abi.encodeCall(_rounds.openRound, (_task, 1, _GENESIS));
        assert(_gasOf(_lead, 0, call) < 75_000);
    }

    function test_VoidRound() public {
        _open(1);
        assert(_gasOf(_lead, 0, abi.encodeCall(_rounds.voidRound, (_task, 1))) < 40_000);
    }

    function test_SubmitDirect() public {
        _open(1);
        bytes memory call = abi.encodeCall(_rounds.submitDirect, (_update(0, 1)));
        assert(_gasOf(_key(0), 0, call) < 75_000);
    }

    function test_SubmitBySig() public {
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        bytes memory signature = _signed(_secret(0), _digestOf(update));
        bytes memory call = abi.encodeCall(_rounds.submitBySig, (update, signature));
        assert(_gasOf(_STRANGER, 0, call) < 80_000);
    }

    function test_ChallengeOmissionByReceipt() public {
        Submissions.ModelUpdate memory update = _sealedWithout(1);
        bytes memory call =
            abi.encodeCall(_rounds.challengeOmission, (update, _receipt(update)));
        assert(_gasOf(_STRANGER, _BOND, call) < 85_000);
    }

    function test_ChallengeOmissionBySubmission() public {
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        VM.prank(_key(0));
        _rounds.submitDirect(update);
        _seal(1);
        bytes memory call = abi.encodeCall(_rounds.challengeOmission, (update, ""));
        assert(_gasOf(_STRANGER, _BOND, call) < 85_000);
    }

    /// @dev Among a thousand updates, so that the proof has ten siblings.
    function test_AnswerChallenge() public {
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        bytes32[] memory proof = new bytes32[](10);
        bytes32 root = _leaf(_digestOf(update), 0, 0);
        for (uint256 i = 0; i < proof.length; ++i) {
            proof[i] = keccak256(abi.encode(i));
            root = Hashes.commutativeKeccak256(root, proof[i]);
        }
        _seal(1, root, 1000);
        _challenge(update);
        bytes memory call =
            abi.encodeCall(_rounds.answerChallenge, (_task, 1, _digestOf(update), 0, 0, proof));
        assert(_gasOf(_STRANGER, 0, call) < 85_000);
    }

    function test_AnswerUnavailable() public {
        _open(1);
        Submissions.ModelUpdate memory update = _update(0, 1);
        VM.prank(_key(0));
        _rounds.submitDirect(update);
        _seal(1);
        _challenge(update, "");
        bytes memory call = abi.encodeCall(_rounds.answerUnavailable, (_task, 1, _org(0)));
        assert(_gasOf(_lead, 0, call) < 75_000);
    }

    function test_DisputeRefundAndWithdrawal() public {
        Submissions.ModelUpdate memory update = _sealedWithout(1);
        _challenge(update);
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        assert(_gasOf(_STRANGER, 0, abi.encodeCall(_rounds.dispute, (_task, 1))) < 45_000);
        bytes memory call = abi.encodeCall(_rounds.refundBond, (_task, 1, _digestOf(update)));
        assert(_gasOf(_STRANGER, 0, call) < 65_000);
        assert(_gasOf(_STRANGER, 0, abi.encodeCall(_rounds.withdraw, ())) < 40_000);
    }

    function test_AttestByTwo() public {
        _open(1);
        _seal(1);
        Attestors.Approval[] memory approvals = _attestations(1, 2);
        bytes memory call = abi.encodeCall(_rounds.attest, (_task, 1, _SCORES, approvals));
        assert(_gasOf(_STRANGER, 0, call) < 105_000);
    }

    function test_Finalize() public {
        _open(1);
        _seal(1);
        _attest(1);
        VM.warp(block.timestamp + _WINDOW + 1);
        bytes memory call = abi.encodeCall(_rounds.finalize, (_task, 1));
        assert(_gasOf(_STRANGER, 0, call) < 45_000);
    }

    function _gasOfSeal(bytes32 terms, uint32 leafCount) private returns (uint256) {
        _task = _openedTask(terms);
        _open(1);
        bytes memory call = abi.encodeCall(
            _rounds.seal,
            (
                _task,
                1,
                keccak256(abi.encode(leafCount)),
                leafCount,
                _adapter(1),
                _MANIFEST,
                _REWARDS,
                _TOTAL
            )
        );
        return _gasOf(_lead, 0, call);
    }

    function _gasOf(address caller, uint256 value, bytes memory call) private returns (uint256) {
        VM.prank(caller);
        uint256 before = gasleft();
        (bool done,) = address(_rounds).call{value: value}(call);
        uint256 used = before - gasleft();
        assert(done);
        return used;
    }

    function _within1Percent(uint256 a, uint256 b) private pure returns (bool) {
        return (a > b ? a - b : b - a) * 100 <= a;
    }
}
