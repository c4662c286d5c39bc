// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "../contracts/Attestors.sol";
import {IRegistry} from "../contracts/IRegistry.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Unlearning} from "../contracts/Unlearning.sol";
import {VM} from "./Cheats.sol";
import {UnlearningFixture} from "./UnlearningFixture.sol";

/// @dev What asking does, when it is overdue, and every reason for which a request is refused but
/// its signature's (see `UnlearningSignatures.t.sol`).
contract UnlearningRequestsTest is UnlearningFixture {
    function test_TheConstructorRefusesARegistryThatIsNoContract() public {
        VM.expectRevert(
            abi.encodeWithSelector(Attestors.AttestorsNoRegistry.selector, address(0xBEEF))
        );
        new Unlearning(IRegistry(address(0xBEEF)), _rounds);
    }

    function test_TheConstructorRefusesRoundsThatAreNoContract() public {
        VM.expectRevert(
            abi.encodeWithSelector(Unlearning.UnlearningNoRounds.selector, address(0xBEEF))
        );
        new Unlearning(_registry, IRounds(address(0xBEEF)));
    }

    function test_TheConstructorKeepsWhereToLookUp() public view {
        assert(address(_unlearning.REGISTRY()) == address(_registry));
        assert(address(_unlearning.ROUNDS()) == address(_rounds));
    }

    function test_ARequestIsOpenWhoeverBringsIt() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        wanted.scope = Unlearning.Scope.Organization;
        wanted.id = _id(wanted);
        bytes memory signature = _signed(_secret(_ASKING), _digest(wanted));
        VM.expectEmit();
        emit Unlearning.UnlearningRequested(
            wanted.id, _TASK, _org(_ASKING), _SUBJECT, Unlearning.Scope.Organization, _DUE
        );
        VM.prank(address(0xBEEF));
        _unlearning.request(wanted, signature);
        assert(_unlearning.stateOf(wanted.id) == Unlearning.State.Open);
        Unlearning.Record memory record = _unlearning.getRequest(wanted.id);
        assert(record.state == Unlearning.State.Open);
        assert(record.task == _TASK && record.organization == _org(_ASKING));
        assert(record.subject == _SUBJECT && record.scope == Unlearning.Scope.Organization);
        assert(record.deadline == _DUE && record.requestedAt == 1000 && record.closedAt == 0);
        assert(record.completion.evidenceRoot == 0 && record.completion.adapter == 0);
        assert(record.completion.firstAffectedRound == 0);
        assert(record.reason == 0 && record.details == 0);
    }

    function test_NothingIsKnownOfARequestThatNobodyBrought() public view {
        bytes32 id = _wanted(_ASKING).id;
        assert(_unlearning.stateOf(id) == Unlearning.State.None);
        assert(!_unlearning.isOverdue(id));
        Unlearning.Record memory record = _unlearning.getRequest(id);
        assert(record.state == Unlearning.State.None && record.organization == 0);
    }

    function test_RequestRefusesAnIdThatDoesNotFollowFromTheRest() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes32 expected = wanted.id;
        wanted.id = keccak256("random");
        _refuse(
            abi.encodeWithSelector(Unlearning.UnlearningWrongId.selector, wanted.id, expected),
            wanted
        );
        wanted.id = 0;
        _refuse(
            abi.encodeWithSelector(Unlearning.UnlearningWrongId.selector, bytes32(0), expected),
            wanted
        );
    }

    /// @dev Otherwise whoever sees a request on its way could keep it out by asking first.
    function test_NoOtherOrganizationCanTakeTheIdOfARequestOnItsWay() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        Unlearning.Request memory hostile = _wanted(2);
        bytes32 own = hostile.id;
        hostile.id = wanted.id;
        bytes memory signature = _signed(_secret(2), _digest(hostile));
        VM.expectRevert(
            abi.encodeWithSelector(Unlearning.UnlearningWrongId.selector, wanted.id, own)
        );
        _unlearning.request(hostile, signature);
        _requested(wanted);
        hostile.id = own;
        _requested(hostile);
        assert(_unlearning.stateOf(wanted.id) == Unlearning.State.Open);
    }

    function test_RequestRefusesNoSubject() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        wanted.subject = 0;
        wanted.id = _id(wanted);
        _refuse(
            abi.encodeWithSelector(Unlearning.UnlearningZeroValue.selector, "subject"), wanted
        );
    }

    function test_RequestRefusesADeadlineThatDoesNotLieAhead() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        VM.warp(_DUE);
        _refuse(
            abi.encodeWithSelector(Unlearning.UnlearningExpired.selector, _DUE, _DUE), wanted
        );
        VM.warp(_DUE + 1);
        _refuse(
            abi.encodeWithSelector(Unlearning.UnlearningExpired.selector, _DUE, _DUE + 1), wanted
        );
        VM.warp(_DUE - 1);
        _requested(wanted);
    }

    function test_RequestRefusesAnUnknownTask() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        wanted.task = keccak256("unknown");
        wanted.id = _id(wanted);
        _refuse(
            abi.encodeWithSelector(Unlearning.UnlearningUnknownTask.selector, wanted.task), wanted
        );
    }

    function test_RequestRefusesTheSameAgainWhateverBecameOfIt() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        for (uint8 state = 1; state <= 4; ++state) {
            setUp();
            _requested(wanted);
            if (state == 2) _completed(wanted.id);
            if (state == 3) _rejected(wanted.id);
            if (state == 4) _cancelled(wanted.id);
            _refuse(
                abi.encodeWithSelector(
                    Unlearning.UnlearningKnownRequest.selector, wanted.id, state
                ),
                wanted
            );
        }
    }

    function test_ANewSaltMakesANewRequestOfTheSame() public {
        _cancelled(_requested());
        Unlearning.Request memory again = _wanted(_ASKING);
        again.subject = keccak256("subject with another salt");
        again.id = _id(again);
        _requested(again);
        assert(_unlearning.stateOf(again.id) == Unlearning.State.Open);
    }

    function test_RequestRefusesAScopeThatDoesNotExist() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes memory call = abi.encodeCall(_unlearning.request, (wanted, new bytes(65)));
        // The selector and four words of the request come before its scope.
        uint256 last = 4 + 32 * 5 - 1;
        assert(call[last - 32] == bytes1(_SUBJECT << 248) && call[last] == 0);
        call[last] = 0x02;
        (bool done, bytes memory answer) = address(_unlearning).call(call);
        assert(!done && answer.length == 0);
    }

    function test_AnOrganizationThatLeftMayStillAsk() public {
        _departed(_ASKING);
        assert(!_registry.isMember(_org(_ASKING)));
        assert(_unlearning.stateOf(_requested()) == Unlearning.State.Open);
    }

    function test_AnOrganizationThatWasRemovedMayStillAsk() public {
        _executed(_removal(_ASKING, _K));
        assert(_unlearning.stateOf(_requested()) == Unlearning.State.Open);
    }

    function test_ARequestIsOverdueFromTheSecondAfterItsDeadline() public {
        bytes32 id = _requested();
        assert(!_unlearning.isOverdue(id));
        VM.warp(_DUE);
        assert(!_unlearning.isOverdue(id));
        VM.warp(_DUE + 1);
        assert(_unlearning.isOverdue(id));
        assert(_unlearning.stateOf(id) == Unlearning.State.Open);
    }

    function test_ARequestThatIsNoLongerOpenIsNeverOverdue() public {
        for (uint8 state = 2; state <= 4; ++state) {
            setUp();
            bytes32 id = _requested();
            VM.warp(_DUE + 1);
            assert(_unlearning.isOverdue(id));
            if (state == 2) _completed(id);
            if (state == 3) _rejected(id);
            if (state == 4) _cancelled(id);
            assert(uint8(_unlearning.stateOf(id)) == state);
            assert(!_unlearning.isOverdue(id));
        }
    }

    function testFuzz_OverdueFollowsFromTimeAlone(uint64 deadline, uint64 brought, uint64 later)
        public
    {
        VM.assume(deadline > 0);
        brought %= deadline;
        VM.warp(brought);
        Unlearning.Request memory wanted = _wanted(_ASKING);
        wanted.deadline = deadline;
        wanted.id = _id(wanted);
        _requested(wanted);
        assert(!_unlearning.isOverdue(wanted.id));
        VM.warp(uint256(brought) + later);
        assert(_unlearning.isOverdue(wanted.id) == (uint256(brought) + later > deadline));
    }

    function testFuzz_AnyRequestCanBeReadBack(
        bytes32 task,
        bytes32 subject,
        bool whole,
        uint64 deadline,
        uint8 number
    ) public {
        VM.assume(subject != 0 && deadline > 1000);
        Unlearning.Request memory wanted = _wanted(number % 4);
        wanted.task = task;
        wanted.subject = subject;
        wanted.scope = whole ? Unlearning.Scope.Organization : Unlearning.Scope.Records;
        wanted.deadline = deadline;
        wanted.id = _id(wanted);
        assert(_unlearning.idOf(wanted) == wanted.id);
        assert(_unlearning.requestDigest(wanted) == _digest(wanted));
        _rounds.setCoordinator(task, _COORDINATOR);
        _requested(wanted);
        Unlearning.Record memory record = _unlearning.getRequest(wanted.id);
        assert(record.task == task && record.organization == wanted.organization);
        assert(record.subject == subject && record.scope == wanted.scope);
        assert(record.deadline == deadline && record.requestedAt == 1000);
    }
}
