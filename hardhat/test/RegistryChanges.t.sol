// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {COORDINATOR, PAUSER} from "../contracts/IRegistry.sol";
import {MemberKeys} from "../contracts/MemberKeys.sol";
import {Registry} from "../contracts/Registry.sol";
import {VM} from "./Cheats.sol";
import {RegistryFixture} from "./RegistryFixture.sol";

/// @dev Every kind of change, what it does and when it is refused although enough members signed.
contract RegistryChangesTest is RegistryFixture {
    function test_AdmitMemberMakesAMember() public {
        VM.roll(110);
        Registry.Change memory change = _admission(4, 0, 4);
        VM.expectEmit();
        emit Registry.ChangeExecuted(0, Registry.Kind.AdmitMember, _digest(change));
        VM.expectEmit();
        emit MemberKeys.MemberJoined(_org(4), _key(4), _NODE_KEY, _METADATA);
        VM.expectEmit();
        emit Registry.ThresholdChanged(3, 4);
        _executed(change);
        assert(_registry.isMember(_org(4)) && _registry.keyOf(_org(4)) == _key(4));
        assert(!_registry.isMemberAt(_org(4), 109) && _registry.isMemberAt(_org(4), 110));
        assert(_registry.memberCount() == 5 && _registry.threshold() == 4);
        assert(_registry.changeNonce() == 1);
    }

    function test_AdmitMemberRefusesAMember() public {
        _refused(
            _admission(3, 1, 3),
            abi.encodeWithSelector(MemberKeys.MemberKeysAlreadyMember.selector, _org(3))
        );
    }

    function test_AdmitMemberRefusesAKeyThatAnyOrganizationHasOrHad() public {
        Registry.Change memory change = _admission(4, 0, 3);
        change.account = _key(0);
        bytes memory taken =
            abi.encodeWithSelector(MemberKeys.MemberKeysKeyTaken.selector, _key(0), _org(0));
        _refused(change, taken);
        _rotated(0, 0);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        approvals[0].signature = _signed(_secret(0, 1), _digest(change));
        VM.expectRevert(taken);
        _registry.execute(change, approvals);
    }

    function test_ALoneFounderAdmitsASecondMemberOnlyWithAThresholdOfTwo() public {
        _registry = new Registry(_founding(1, 1));
        Registry.Change memory change = _admission(1, 0, 1);
        Registry.Approval[] memory approvals = _approvals(_digest(change), 1);
        VM.expectRevert(
            abi.encodeWithSelector(Registry.RegistryThresholdOutOfRange.selector, 1, 2)
        );
        _registry.execute(change, approvals);
        change.threshold = 2;
        _registry.execute(change, _approvals(_digest(change), 1));
        assert(_registry.memberCount() == 2 && _registry.threshold() == 2);
    }

    function test_RemoveMemberEndsItsMembershipAndKeepsItsHistory() public {
        VM.roll(120);
        VM.expectEmit();
        emit MemberKeys.MemberLeft(_org(3), _key(3));
        _executed(_removal(3, 3));
        assert(!_registry.isMember(_org(3)) && _registry.keyOf(_org(3)) == address(0));
        assert(_registry.keyAt(_org(3), 119) == _key(3) && _registry.isMemberAt(_org(3), 119));
        assert(_registry.keyAt(_org(3), 120) == address(0));
        assert(_registry.memberCount() == 3 && _registry.threshold() == 3);
        assert(_registry.holderOf(_key(3)) == _org(3));
    }

    function test_RemoveMemberEndsItsAttestorshipToo() public {
        VM.expectEmit();
        emit Registry.AttestorRemoved(_org(1));
        _executed(_removal(1, 3));
        assert(!_registry.isAttestor(_org(1)) && _registry.attestors().length == 1);
    }

    function test_RemoveMemberRefusesToLeaveFewerMembersThanTheThreshold() public {
        _refused(
            _removal(3, 4),
            abi.encodeWithSelector(Registry.RegistryThresholdOutOfRange.selector, 4, 3)
        );
    }

    function test_RemoveMemberRefusesToLeaveFewerAttestorsThanTheirThreshold() public {
        _executed(_toThreshold(Registry.Kind.SetAttestorThreshold, 2));
        _refused(
            _removal(1, 3),
            abi.encodeWithSelector(Registry.RegistryAttestorThresholdOutOfRange.selector, 2, 1)
        );
    }

    function test_RemoveMemberRefusesAStranger() public {
        _refused(
            _removal(9, 3), abi.encodeWithSelector(MemberKeys.MemberKeysNotMember.selector, _org(9))
        );
    }

    function test_AnOrganizationThatLeftIsAdmittedAgainWithAFreshKeyOnly() public {
        VM.roll(120);
        _executed(_removal(3, 3));
        VM.roll(130);
        _refused(
            _admission(3, 0, 3),
            abi.encodeWithSelector(MemberKeys.MemberKeysKeyTaken.selector, _key(3), _org(3))
        );
        _executed(_admission(3, 1, 3));
        assert(_registry.keyOf(_org(3)) == _key(3, 1));
        assert(_registry.keyAt(_org(3), 119) == _key(3));
        assert(_registry.keyAt(_org(3), 129) == address(0));
        MemberKeys.KeyPeriod[] memory history = _registry.keyHistory(_org(3));
        assert(history.length == 3);
        assert(history[0].fromBlock == 100 && history[0].key == _key(3));
        assert(history[1].fromBlock == 120 && history[1].key == address(0));
        assert(history[2].fromBlock == 130 && history[2].key == _key(3, 1));
    }

    function test_SetThresholdReplacesTheThreshold() public {
        VM.expectEmit();
        emit Registry.ThresholdChanged(3, 2);
        _executed(_toThreshold(Registry.Kind.SetThreshold, 2));
        assert(_registry.threshold() == 2);
        Registry.Change memory change = _toThreshold(Registry.Kind.SetThreshold, 4);
        _registry.execute(change, _approvals(_digest(change), 2));
        assert(_registry.threshold() == 4);
    }

    function test_SetThresholdRefusesOneAndMoreThanAllMembers() public {
        bytes4 selector = Registry.RegistryThresholdOutOfRange.selector;
        _refused(
            _toThreshold(Registry.Kind.SetThreshold, 1), abi.encodeWithSelector(selector, 1, 4)
        );
        _refused(
            _toThreshold(Registry.Kind.SetThreshold, 5), abi.encodeWithSelector(selector, 5, 4)
        );
    }

    function test_AddAttestorMakesAMemberAnAttestor() public {
        VM.expectEmit();
        emit Registry.AttestorAdded(_org(2));
        _executed(_about(Registry.Kind.AddAttestor, 2));
        assert(_registry.isAttestor(_org(2)));
    }

    function test_AddAttestorRefusesAStrangerAndAnAttestor() public {
        _refused(
            _about(Registry.Kind.AddAttestor, 9),
            abi.encodeWithSelector(MemberKeys.MemberKeysNotMember.selector, _org(9))
        );
        _refused(
            _about(Registry.Kind.AddAttestor, 0),
            abi.encodeWithSelector(Registry.RegistryAlreadyAttestor.selector, _org(0))
        );
    }

    function test_RemoveAttestorLeavesAMember() public {
        VM.expectEmit();
        emit Registry.AttestorRemoved(_org(0));
        _executed(_about(Registry.Kind.RemoveAttestor, 0));
        assert(!_registry.isAttestor(_org(0)) && _registry.isMember(_org(0)));
    }

    function test_RemoveAttestorRefusesToLeaveFewerThanTheThreshold() public {
        _executed(_about(Registry.Kind.RemoveAttestor, 0));
        _refused(
            _about(Registry.Kind.RemoveAttestor, 1),
            abi.encodeWithSelector(Registry.RegistryAttestorThresholdOutOfRange.selector, 1, 0)
        );
    }

    function test_RemoveAttestorRefusesOneThatIsNone() public {
        _refused(
            _about(Registry.Kind.RemoveAttestor, 2),
            abi.encodeWithSelector(Registry.RegistryNotAttestor.selector, _org(2))
        );
    }

    function test_SetAttestorThresholdReplacesTheThreshold() public {
        VM.expectEmit();
        emit Registry.AttestorThresholdChanged(1, 2);
        _executed(_toThreshold(Registry.Kind.SetAttestorThreshold, 2));
        assert(_registry.attestorThreshold() == 2);
        _refused(
            _toThreshold(Registry.Kind.SetAttestorThreshold, 3),
            abi.encodeWithSelector(Registry.RegistryAttestorThresholdOutOfRange.selector, 3, 2)
        );
    }

    function test_GrantRoleGivesARole() public {
        VM.expectEmit();
        emit Registry.RoleGranted(PAUSER, address(7));
        _executed(_ofRole(Registry.Kind.GrantRole, PAUSER, address(7)));
        assert(_registry.hasRole(PAUSER, address(7)) && _registry.hasRole(PAUSER, _PAUSER));
        assert(_registry.roleHolders(PAUSER).length == 2);
    }

    function test_GrantRoleRefusesAnUnknownRoleAndAHolder() public {
        _refused(
            _ofRole(Registry.Kind.GrantRole, "owner", address(7)),
            abi.encodeWithSelector(Registry.RegistryUnknownRole.selector, bytes32("owner"))
        );
        _refused(
            _ofRole(Registry.Kind.GrantRole, COORDINATOR, _COORDINATOR),
            abi.encodeWithSelector(Registry.RegistryRoleHeld.selector, COORDINATOR, _COORDINATOR)
        );
    }

    function test_RevokeRoleTakesARoleEvenFromTheLastHolder() public {
        VM.expectEmit();
        emit Registry.RoleRevoked(COORDINATOR, _COORDINATOR);
        _executed(_ofRole(Registry.Kind.RevokeRole, COORDINATOR, _COORDINATOR));
        assert(!_registry.hasRole(COORDINATOR, _COORDINATOR));
        assert(_registry.roleHolders(COORDINATOR).length == 0);
    }

    function test_RevokeRoleRefusesOneThatDoesNotHoldIt() public {
        _refused(
            _ofRole(Registry.Kind.RevokeRole, PAUSER, _COORDINATOR),
            abi.encodeWithSelector(Registry.RegistryRoleNotHeld.selector, PAUSER, _COORDINATOR)
        );
    }

    /// @dev Over all kinds and all choices of fields, only the very fields of the kind pass.
    function testFuzz_OnlyTheFieldsOfTheKindMayBeGiven(uint8 kind, uint8 fields) public {
        kind %= 9;
        fields %= 64;
        uint8[9] memory expected = [47, 33, 32, 1, 1, 32, 18, 18, 3];
        VM.assume(fields != expected[kind]);
        Registry.Change memory change = _blank(Registry.Kind(kind));
        if (fields & 1 != 0) change.organization = _org(4);
        if (fields & 2 != 0) change.account = _key(4);
        if (fields & 4 != 0) change.nodeKey = _NODE_KEY;
        if (fields & 8 != 0) change.metadata = _METADATA;
        if (fields & 16 != 0) change.role = PAUSER;
        if (fields & 32 != 0) change.threshold = 2;
        _refused(
            change,
            abi.encodeWithSelector(
                Registry.RegistryUnexpectedFields.selector, kind, fields, expected[kind]
            )
        );
        assert(_registry.changeNonce() == 0);
    }
}
