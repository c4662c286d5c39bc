// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MemberKeys} from "../contracts/MemberKeys.sol";
import {Registry} from "../contracts/Registry.sol";
import {VM} from "./Cheats.sol";
import {RegistryFixture} from "./RegistryFixture.sol";

/// @dev What an organization does by its own signature, and the recovery of a lost key.
contract RegistryKeysTest is RegistryFixture {
    bytes32 private constant _OTHER = keccak256("other");

    function test_RotateKeyReplacesTheKeyAtOnceAndKeepsTheHistory() public {
        VM.roll(110);
        VM.expectEmit();
        emit MemberKeys.KeyRotated(_org(0), _key(0), _key(0, 1));
        _rotated(0, 0);
        assert(_registry.keyOf(_org(0)) == _key(0, 1));
        assert(_registry.keyAt(_org(0), 109) == _key(0));
        assert(_registry.keyAt(_org(0), 110) == _key(0, 1));
        assert(_registry.holderOf(_key(0, 1)) == _org(0) && _registry.holderOf(_key(0)) == _org(0));
        assert(_registry.nonceOf(_org(0)) == 1);
    }

    function test_OfTwoRotationsInABlockTheLastCounts() public {
        VM.roll(110);
        _rotated(0, 0);
        _rotated(0, 1);
        assert(_registry.keyAt(_org(0), 110) == _key(0, 2));
        assert(_registry.keyHistory(_org(0)).length == 2);
        assert(_registry.holderOf(_key(0, 1)) == _org(0));
    }

    function test_RotateKeyRefusesAKeyThatAnyOrganizationHasOrHad() public {
        _refusedRotation(0, 0, _secret(1), _org(1));
        _rotated(0, 0);
        _refusedRotation(0, 1, _secret(0), _org(0));
        _refusedRotation(1, 0, _secret(0), _org(0));
    }

    function test_RotateKeyRefusesTheZeroKey() public {
        bytes32 digest = _rotationDigest(0, address(0), 0);
        bytes memory signature = _signed(_secret(0), digest);
        VM.expectRevert(
            abi.encodeWithSelector(
                MemberKeys.MemberKeysWrongSigner.selector, _org(0), _key(0), address(0)
            )
        );
        _registry.rotateKey(_org(0), address(0), _DEADLINE, signature, signature);
    }

    function test_RotateKeyNeedsBothKeys() public {
        bytes32 digest = _rotationDigest(0, _key(0, 1), 0);
        bytes memory old = _signed(_secret(0), digest);
        bytes memory possession = _signed(_secret(0, 1), digest);
        VM.expectRevert(
            abi.encodeWithSelector(
                MemberKeys.MemberKeysWrongSigner.selector, _org(0), _key(0), _key(0, 1)
            )
        );
        _registry.rotateKey(_org(0), _key(0, 1), _DEADLINE, old, old);
        VM.expectRevert(
            abi.encodeWithSelector(
                MemberKeys.MemberKeysWrongSigner.selector, _org(0), _key(0, 1), _key(0)
            )
        );
        _registry.rotateKey(_org(0), _key(0, 1), _DEADLINE, possession, possession);
        _registry.rotateKey(_org(0), _key(0, 1), _DEADLINE, old, possession);
    }

    function test_ARetiredKeyNoLongerApproves() public {
        _rotated(0, 0);
        Registry.Change memory change = _removal(3, 3);
        _refused(
            change,
            abi.encodeWithSelector(
                MemberKeys.MemberKeysWrongSigner.selector, _org(0), _key(0), _key(0, 1)
            )
        );
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        approvals[0].signature = _signed(_secret(0, 1), _digest(change));
        _registry.execute(change, approvals);
    }

    function test_UpdateProfileReplacesNodeKeyAndMetadata() public {
        bytes memory signature = _signed(_secret(0), _profileDigest(0, _OTHER, _METADATA, 0));
        VM.expectEmit();
        emit MemberKeys.ProfileUpdated(_org(0), _OTHER, _METADATA);
        _registry.updateProfile(_org(0), _OTHER, _METADATA, _DEADLINE, signature);
        MemberKeys.Member memory member = _registry.getMember(_org(0));
        assert(member.nodeKey == _OTHER && member.metadata == _METADATA && member.nonce == 1);
    }

    function test_UpdateProfileRefusesZeroHashes() public {
        bytes memory signature = _signed(_secret(0), _profileDigest(0, 0, _METADATA, 0));
        VM.expectRevert(
            abi.encodeWithSelector(MemberKeys.MemberKeysZeroValue.selector, "nodeKey")
        );
        _registry.updateProfile(_org(0), 0, _METADATA, _DEADLINE, signature);
        signature = _signed(_secret(0), _profileDigest(0, _OTHER, 0, 0));
        VM.expectRevert(
            abi.encodeWithSelector(MemberKeys.MemberKeysZeroValue.selector, "metadata")
        );
        _registry.updateProfile(_org(0), _OTHER, 0, _DEADLINE, signature);
    }

    function test_DepartEndsAMembershipByItsOwnSignature() public {
        VM.roll(120);
        VM.expectEmit();
        emit MemberKeys.MemberLeft(_org(0), _key(0));
        VM.expectEmit();
        emit Registry.AttestorRemoved(_org(0));
        _departed(0);
        assert(!_registry.isMember(_org(0)) && !_registry.isAttestor(_org(0)));
        assert(_registry.isMemberAt(_org(0), 119) && !_registry.isMemberAt(_org(0), 120));
        assert(_registry.threshold() == _K && _registry.changeNonce() == 0);
    }

    function test_DepartRefusesToLeaveFewerMembersThanTheThreshold() public {
        _departed(3);
        bytes memory signature = _departure(2);
        VM.expectRevert(
            abi.encodeWithSelector(Registry.RegistryThresholdOutOfRange.selector, 3, 2)
        );
        _registry.depart(_org(2), _DEADLINE, signature);
        assert(_registry.isMember(_org(2)));
    }

    function test_DepartRefusesToLeaveFewerAttestorsThanTheirThreshold() public {
        _executed(_toThreshold(Registry.Kind.SetAttestorThreshold, 2));
        bytes memory signature = _departure(1);
        VM.expectRevert(
            abi.encodeWithSelector(Registry.RegistryAttestorThresholdOutOfRange.selector, 2, 1)
        );
        _registry.depart(_org(1), _DEADLINE, signature);
    }

    function test_TheNonceOutlivesAMembership() public {
        bytes memory signature = _departure(3);
        _registry.depart(_org(3), _DEADLINE, signature);
        _executed(_admission(3, 1, 3));
        assert(_registry.nonceOf(_org(3)) == 1);
    }

    function test_AnOrganizationThatLeftSignsNothingMore() public {
        _departed(3);
        bytes memory signature = _signed(_secret(3), _profileDigest(3, _OTHER, _OTHER, 1));
        bytes memory refused =
            abi.encodeWithSelector(MemberKeys.MemberKeysNotMember.selector, _org(3));
        VM.expectRevert(refused);
        _registry.updateProfile(_org(3), _OTHER, _OTHER, _DEADLINE, signature);
        signature = _departure(3);
        VM.expectRevert(refused);
        _registry.depart(_org(3), _DEADLINE, signature);
        bytes32 digest = _rotationDigest(3, _key(3, 1), 1);
        signature = _signed(_secret(3), digest);
        bytes memory possession = _signed(_secret(3, 1), digest);
        VM.expectRevert(refused);
        _registry.rotateKey(_org(3), _key(3, 1), _DEADLINE, signature, possession);
    }

    function test_TheLastKeyOfAMemberIsItsKey() public view {
        assert(_registry.lastKeyOf(_org(0)) == _key(0));
    }

    function test_TheLastKeyFollowsARotation() public {
        _rotated(0, 0);
        assert(_registry.lastKeyOf(_org(0)) == _key(0, 1));
        VM.roll(110);
        _rotated(0, 1);
        assert(_registry.lastKeyOf(_org(0)) == _key(0, 2));
    }

    function test_TheLastKeyOfAnOrganizationThatLeftIsTheOneItLeftWith() public {
        VM.roll(110);
        _rotated(3, 0);
        VM.roll(120);
        _executed(_removal(3, 3));
        assert(_registry.keyOf(_org(3)) == address(0));
        assert(_registry.lastKeyOf(_org(3)) == _key(3, 1));
    }

    function test_TheLastKeyOfAnOrganizationThatReturnedIsItsNewOne() public {
        VM.roll(110);
        _departed(3);
        VM.roll(120);
        _executed(_admission(3, 1, 3));
        assert(_registry.lastKeyOf(_org(3)) == _key(3, 1));
        VM.roll(130);
        _executed(_removal(3, 3));
        assert(_registry.lastKeyOf(_org(3)) == _key(3, 1));
    }

    function test_AnOrganizationThatNeverWasAMemberHasNoLastKey() public view {
        assert(_registry.lastKeyOf(_org(9)) == address(0));
    }

    /// @dev Its history holds no key of it, since of a block only the end counts.
    function test_AnOrganizationThatJoinedAndLeftInOneBlockHasTheKeyItCameWith() public {
        VM.roll(110);
        _executed(_admission(9, 0, 3));
        _executed(_removal(9, 3));
        assert(_registry.lastKeyOf(_org(9)) == _key(9));
        assert(_registry.keyHistory(_org(9)).length == 1);
    }

    function test_AnOrganizationThatReturnedAndLeftInOneBlockHasTheKeyItReturnedWith() public {
        VM.roll(110);
        _departed(3);
        VM.roll(120);
        _executed(_admission(3, 1, 3));
        _executed(_removal(3, 3));
        assert(_registry.lastKeyOf(_org(3)) == _key(3, 1));
    }

    /// @dev Or whoever stole the key before would be paid, and ask, for good.
    function test_AnOrganizationThatRotatedAndLeftInOneBlockHasItsNewKey() public {
        VM.roll(110);
        _rotated(3, 0);
        _executed(_removal(3, 3));
        assert(_registry.lastKeyOf(_org(3)) == _key(3, 1));
    }

    function test_ProposeRecoveryStartsTheDelayAndChangesNoKey() public {
        VM.expectEmit();
        emit MemberKeys.RecoveryProposed(_org(3), _key(3, 1), 1000 + _DELAY);
        _executed(_recovery(3, 1));
        MemberKeys.Recovery memory pending = _registry.recoveryOf(_org(3));
        assert(pending.newKey == _key(3, 1) && pending.readyAt == 1000 + _DELAY);
        assert(_registry.keyOf(_org(3)) == _key(3) && _registry.holderOf(_key(3, 1)) == 0);
    }

    function test_ProposeRecoveryRefusesAStrangerAndATakenKey() public {
        _refused(
            _recovery(9, 1),
            abi.encodeWithSelector(MemberKeys.MemberKeysNotMember.selector, _org(9))
        );
        Registry.Change memory change = _recovery(3, 1);
        change.account = _key(3);
        _refused(
            change, abi.encodeWithSelector(MemberKeys.MemberKeysKeyTaken.selector, _key(3), _org(3))
        );
    }

    function test_AnotherProposalReplacesTheFirstAndStartsItsDelayAnew() public {
        _executed(_recovery(3, 1));
        VM.warp(2000);
        VM.expectEmit();
        emit MemberKeys.RecoveryCancelled(_org(3), _key(3, 1));
        VM.expectEmit();
        emit MemberKeys.RecoveryProposed(_org(3), _key(3, 2), 2000 + _DELAY);
        _executed(_recovery(3, 2));
        assert(_registry.recoveryOf(_org(3)).readyAt == 2000 + _DELAY);
    }

    function test_AnyoneCompletesARecoveryOnceItsDelayHasPassed() public {
        _executed(_recovery(3, 1));
        uint256 readyAt = 1000 + _DELAY;
        VM.warp(readyAt - 1);
        VM.expectRevert(
            abi.encodeWithSelector(
                MemberKeys.MemberKeysRecoveryNotReady.selector, _org(3), readyAt, readyAt - 1
            )
        );
        _registry.completeRecovery(_org(3));
        VM.warp(readyAt);
        VM.roll(130);
        VM.expectEmit();
        emit MemberKeys.RecoveryCompleted(_org(3), _key(3, 1));
        VM.expectEmit();
        emit MemberKeys.KeyRotated(_org(3), _key(3), _key(3, 1));
        VM.prank(address(0xBEEF));
        _registry.completeRecovery(_org(3));
        assert(_registry.keyOf(_org(3)) == _key(3, 1));
        assert(_registry.keyAt(_org(3), 129) == _key(3));
        _nothingPending(3);
    }

    function test_CompleteRecoveryRefusesAKeyTakenMeanwhile() public {
        _executed(_recovery(3, 1));
        Registry.Change memory change = _admission(4, 0, 3);
        change.account = _key(3, 1);
        _executed(change);
        VM.warp(1000 + _DELAY);
        VM.expectRevert(
            abi.encodeWithSelector(MemberKeys.MemberKeysKeyTaken.selector, _key(3, 1), _org(4))
        );
        _registry.completeRecovery(_org(3));
        assert(_registry.keyOf(_org(3)) == _key(3));
    }

    function test_TheCurrentKeyCancelsARecovery() public {
        _executed(_recovery(3, 1));
        bytes memory signature = _signed(_secret(3), _cancellationDigest(3, _key(3, 1), 0));
        VM.expectEmit();
        emit MemberKeys.RecoveryCancelled(_org(3), _key(3, 1));
        _registry.cancelRecovery(_org(3), _DEADLINE, signature);
        _nothingPending(3);
        _executed(_recovery(3, 1));
        VM.expectRevert(
            abi.encodeWithSelector(
                MemberKeys.MemberKeysWrongSigner.selector,
                _org(3),
                _signerOf(_cancellationDigest(3, _key(3, 1), 1), signature),
                _key(3)
            )
        );
        _registry.cancelRecovery(_org(3), _DEADLINE, signature);
    }

    function test_NeitherTheNewKeyNorAnotherMemberCancelsARecovery() public {
        _executed(_recovery(3, 1));
        bytes32 digest = _cancellationDigest(3, _key(3, 1), 0);
        bytes memory signature = _signed(_secret(3, 1), digest);
        bytes4 selector = MemberKeys.MemberKeysWrongSigner.selector;
        VM.expectRevert(abi.encodeWithSelector(selector, _org(3), _key(3, 1), _key(3)));
        _registry.cancelRecovery(_org(3), _DEADLINE, signature);
        signature = _signed(_secret(0), digest);
        VM.expectRevert(abi.encodeWithSelector(selector, _org(3), _key(0), _key(3)));
        _registry.cancelRecovery(_org(3), _DEADLINE, signature);
    }

    function test_ARotationCancelsAPendingRecovery() public {
        _executed(_recovery(3, 2));
        VM.expectEmit();
        emit MemberKeys.RecoveryCancelled(_org(3), _key(3, 2));
        _rotated(3, 0);
        _nothingPending(3);
    }

    function test_LeavingCancelsAPendingRecovery() public {
        _executed(_recovery(3, 1));
        _executed(_removal(3, 3));
        _nothingPending(3);
    }

    function _nothingPending(uint256 number) private {
        assert(_registry.recoveryOf(_org(number)).newKey == address(0));
        bytes memory none =
            abi.encodeWithSelector(MemberKeys.MemberKeysNoRecovery.selector, _org(number));
        VM.expectRevert(none);
        _registry.completeRecovery(_org(number));
        VM.expectRevert(none);
        _registry.cancelRecovery(_org(number), _DEADLINE, "");
    }

    function _refusedRotation(uint256 number, uint256 generation, uint256 secret, bytes32 holder)
        private
    {
        address newKey = VM.addr(secret);
        bytes32 digest = _rotationDigest(number, newKey, _registry.nonceOf(_org(number)));
        bytes memory old = _signed(_secret(number, generation), digest);
        bytes memory possession = _signed(secret, digest);
        VM.expectRevert(
            abi.encodeWithSelector(MemberKeys.MemberKeysKeyTaken.selector, newKey, holder)
        );
        _registry.rotateKey(_org(number), newKey, _DEADLINE, old, possession);
    }
}
