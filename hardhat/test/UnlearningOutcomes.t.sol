// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {COORDINATOR} from "../contracts/IRegistry.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Registry} from "../contracts/Registry.sol";
import {Unlearning} from "../contracts/Unlearning.sol";
import {VM} from "./Cheats.sol";
import {UnlearningFixture} from "./UnlearningFixture.sol";

/// @dev What may become of a request, and what may not; whose signatures count for it is in
/// `UnlearningAttestors.t.sol` and `UnlearningSignatures.t.sol`.
contract UnlearningOutcomesTest is UnlearningFixture {
    function test_ACompletionIsRecordedWhoeverBringsIt() public {
        bytes32 id = _requested();
        VM.warp(_DUE);
        bytes32[] memory names = new bytes32[](2);
        (names[0], names[1]) = (_org(0), _org(1));
        Unlearning.Completion memory completion = _completion();
        VM.expectEmit();
        emit Unlearning.UnlearningCompleted(
            id, _EVIDENCE, _ADAPTER, 3, Unlearning.Guarantee.ExactReplay, false, names
        );
        _completed(id);
        Unlearning.Record memory record = _unlearning.getRequest(id);
        assert(record.state == Unlearning.State.Completed && record.closedAt == _DUE);
        assert(record.completion.evidenceRoot == _EVIDENCE);
        assert(record.completion.adapter == _ADAPTER);
        assert(record.completion.firstAffectedRound == 3);
        assert(record.completion.guarantee == completion.guarantee);
        assert(record.subject == _SUBJECT && record.requestedAt == 1000);
        assert(record.reason == 0 && record.details == 0);
    }

    function test_ALateCompletionIsAcceptedAndShownAsLate() public {
        bytes32 id = _requested();
        VM.warp(_DUE + 1);
        bytes32[] memory names = new bytes32[](2);
        (names[0], names[1]) = (_org(0), _org(1));
        VM.expectEmit();
        emit Unlearning.UnlearningCompleted(
            id, _EVIDENCE, _ADAPTER, 3, Unlearning.Guarantee.ExactReplay, true, names
        );
        _completed(id);
        Unlearning.Record memory record = _unlearning.getRequest(id);
        assert(record.closedAt > record.deadline);
    }

    function test_EveryGuaranteeCanBeRecorded() public {
        for (uint8 i = 0; i < 4; ++i) {
            setUp();
            bytes32 id = _requested();
            Unlearning.Completion memory completion = _completion();
            completion.guarantee = Unlearning.Guarantee(i);
            if (completion.guarantee == Unlearning.Guarantee.NothingToForget) {
                completion.firstAffectedRound = 0;
            }
            _unlearning.complete(id, completion, _attested(id, completion, 2));
            Unlearning.Record memory record = _unlearning.getRequest(id);
            assert(uint8(record.completion.guarantee) == i);
            assert(record.completion.firstAffectedRound == (i == 3 ? 0 : 3));
        }
    }

    function test_CompleteRefusesAGuaranteeThatDoesNotExist() public {
        bytes32 id = _requested();
        Unlearning.Completion memory completion = _completion();
        bytes memory call = abi.encodeCall(
            _unlearning.complete, (id, completion, _attested(id, completion, 2))
        );
        uint256 last = 4 + 32 * 5 - 1;
        assert(call[last] == 0x01 && call[last - 32] == 0x03);
        call[last] = 0x04;
        (bool done, bytes memory answer) = address(_unlearning).call(call);
        assert(!done && answer.length == 0);
    }

    function test_CompleteRefusesNoEvidence() public {
        Unlearning.Completion memory completion = _completion();
        completion.evidenceRoot = 0;
        _unsound(
            abi.encodeWithSelector(Unlearning.UnlearningZeroValue.selector, "evidenceRoot"),
            completion
        );
    }

    function test_CompleteRefusesNoAdapter() public {
        Unlearning.Completion memory completion = _completion();
        completion.adapter = 0;
        _unsound(
            abi.encodeWithSelector(Unlearning.UnlearningZeroValue.selector, "adapter"), completion
        );
    }

    function test_CompleteRefusesNoFirstRoundWhereSomethingWasToForget() public {
        for (uint8 i = 0; i < 3; ++i) {
            setUp();
            Unlearning.Completion memory completion = _completion();
            completion.guarantee = Unlearning.Guarantee(i);
            completion.firstAffectedRound = 0;
            _unsound(
                abi.encodeWithSelector(Unlearning.UnlearningWrongFirstRound.selector, 0, i),
                completion
            );
        }
    }

    function test_CompleteRefusesAFirstRoundWhereNothingWasToForget() public {
        Unlearning.Completion memory completion = _completion();
        completion.guarantee = Unlearning.Guarantee.NothingToForget;
        _unsound(
            abi.encodeWithSelector(Unlearning.UnlearningWrongFirstRound.selector, 3, 3), completion
        );
    }

    function test_CompleteRefusesARoundThatTheTaskNeverHad() public {
        Unlearning.Completion memory completion = _completion();
        completion.firstAffectedRound = 4;
        _unsound(
            abi.encodeWithSelector(Unlearning.UnlearningUnknownRound.selector, _TASK, 4),
            completion
        );
    }

    function test_CompleteAcceptsARoundInAnyPhaseThatTheTaskHad() public {
        for (uint8 phase = 1; phase <= 5; ++phase) {
            setUp();
            _rounds.setRound(_TASK, 3, IRounds.Phase(phase), 0);
            _completed(_requested());
        }
    }

    function test_CompleteRefusesARequestThatIsNotOpen() public {
        for (uint8 state = 0; state <= 4; ++state) {
            if (state == 1) continue;
            bytes32 id = _inState(state);
            _refuseCompletion(
                _notOpen(id, Unlearning.State(state)),
                id,
                _completion(),
                _attested(id, _completion(), 2)
            );
        }
    }

    function test_TheCoordinatorRejectsWithAReason() public {
        bytes32 id = _requested();
        VM.warp(_DUE + 7);
        VM.expectEmit();
        emit Unlearning.UnlearningRejected(id, 17, keccak256("details"));
        VM.prank(_COORDINATOR);
        _unlearning.reject(id, 17, keccak256("details"));
        Unlearning.Record memory record = _unlearning.getRequest(id);
        assert(record.state == Unlearning.State.Rejected && record.closedAt == _DUE + 7);
        assert(record.reason == 17 && record.details == keccak256("details"));
        assert(record.completion.evidenceRoot == 0);
    }

    function test_ACoordinatorWithoutItsRoleMayStillReject() public {
        bytes32 id = _requested();
        _executed(_ofRole(Registry.Kind.RevokeRole, COORDINATOR, _COORDINATOR));
        _rejected(id);
        assert(_unlearning.stateOf(id) == Unlearning.State.Rejected);
    }

    function test_RejectRefusesAnybodyButTheTasksCoordinator() public {
        bytes32 id = _requested();
        address other = address(0xC1);
        _executed(_ofRole(Registry.Kind.GrantRole, COORDINATOR, other));
        _rounds.setCoordinator(keccak256("another task"), other);
        address[4] memory callers = [other, _PAUSER, _key(_ASKING), _key(0)];
        for (uint256 i = 0; i < callers.length; ++i) {
            VM.expectRevert(
                abi.encodeWithSelector(
                    Unlearning.UnlearningNotCoordinator.selector, _TASK, callers[i], _COORDINATOR
                )
            );
            VM.prank(callers[i]);
            _unlearning.reject(id, 1, 0);
        }
    }

    function test_RejectRefusesNoReason() public {
        bytes32 id = _requested();
        VM.expectRevert(
            abi.encodeWithSelector(Unlearning.UnlearningZeroValue.selector, "reason")
        );
        VM.prank(_COORDINATOR);
        _unlearning.reject(id, 0, keccak256("details"));
    }

    function test_RejectRefusesARequestThatIsNotOpen() public {
        for (uint8 state = 0; state <= 4; ++state) {
            if (state == 1) continue;
            bytes32 id = _inState(state);
            VM.expectRevert(_notOpen(id, Unlearning.State(state)));
            VM.prank(_COORDINATOR);
            _unlearning.reject(id, 1, 0);
        }
    }

    function test_TheRequesterCancelsByItsSignatureWhoeverBringsIt() public {
        bytes32 id = _requested();
        bytes memory signature = _signed(_secret(_ASKING), _cancelDigest(id));
        VM.warp(1234);
        VM.expectEmit();
        emit Unlearning.UnlearningCancelled(id);
        VM.prank(address(0xBEEF));
        _unlearning.cancel(id, signature);
        Unlearning.Record memory record = _unlearning.getRequest(id);
        assert(record.state == Unlearning.State.Cancelled && record.closedAt == 1234);
        assert(record.organization == _org(_ASKING));
    }

    function test_CancelRefusesARequestThatIsNotOpen() public {
        for (uint8 state = 0; state <= 4; ++state) {
            if (state == 1) continue;
            bytes32 id = _inState(state);
            bytes memory signature = _signed(_secret(_ASKING), _cancelDigest(id));
            VM.expectRevert(_notOpen(id, Unlearning.State(state)));
            _unlearning.cancel(id, signature);
        }
    }

    function test_AnOrganizationThatLeftMayStillCancel() public {
        bytes32 id = _requested();
        _departed(_ASKING);
        _cancelled(id);
        assert(_unlearning.stateOf(id) == Unlearning.State.Cancelled);
    }

    function test_OneRequestsOutcomeLeavesOthersAsTheyAre() public {
        bytes32 id = _requested();
        bytes32 other = _requested(_wanted(0));
        _completed(id);
        assert(_unlearning.stateOf(other) == Unlearning.State.Open);
        assert(_unlearning.getRequest(other).completion.evidenceRoot == 0);
        _rejected(other);
        assert(_unlearning.stateOf(id) == Unlearning.State.Completed);
    }

    /// @dev A request that two attestors say was fulfilled so must be refused in these words.
    function _unsound(bytes memory reason, Unlearning.Completion memory completion) private {
        bytes32 id = _requested();
        _refuseCompletion(reason, id, completion, _attested(id, completion, 2));
        assert(_unlearning.stateOf(id) == Unlearning.State.Open);
    }

    /// @dev Brings a request of its own into a state.
    function _inState(uint8 state) private returns (bytes32 id) {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        wanted.subject = keccak256(abi.encode(_SUBJECT, state));
        wanted.id = _id(wanted);
        if (state == 0) return wanted.id;
        id = _requested(wanted);
        if (state == 2) _completed(id);
        if (state == 3) _rejected(id);
        if (state == 4) _cancelled(id);
    }
}
