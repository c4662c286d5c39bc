// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {COORDINATOR, IRegistry, PAUSER} from "../contracts/IRegistry.sol";
import {MemberKeys} from "../contracts/MemberKeys.sol";
import {Registry} from "../contracts/Registry.sol";
import {VM} from "./Cheats.sol";
import {RegistryFixture} from "./RegistryFixture.sol";

/// @dev What a registry starts with, and the foundings it refuses.
contract RegistryFoundingTest is RegistryFixture {
    function test_FoundingRecordsTheMembers() public view {
        assert(_registry.memberCount() == _COUNT && _registry.members().length == _COUNT);
        for (uint256 i = 0; i < _COUNT; ++i) {
            assert(_registry.members()[i] == _org(i));
            assert(_registry.isMember(_org(i)) && _registry.isMemberAt(_org(i), 100));
            assert(!_registry.isMemberAt(_org(i), 99));
            MemberKeys.Member memory member = _registry.getMember(_org(i));
            assert(member.key == _key(i) && member.nonce == 0);
            assert(member.nodeKey == _NODE_KEY && member.metadata == _METADATA);
            assert(_registry.keyOf(_org(i)) == _key(i));
            assert(_registry.holderOf(_key(i)) == _org(i));
        }
    }

    function test_FoundingRecordsThresholdsAttestorsAndRoles() public view {
        assert(_registry.threshold() == _K && _registry.changeNonce() == 0);
        assert(_registry.attestorThreshold() == 1 && _registry.attestors().length == 2);
        assert(_registry.isAttestor(_org(0)) && _registry.isAttestor(_org(1)));
        assert(!_registry.isAttestor(_org(2)));
        assert(_registry.hasRole(COORDINATOR, _COORDINATOR) && _registry.hasRole(PAUSER, _PAUSER));
        assert(!_registry.hasRole(PAUSER, _COORDINATOR));
        assert(_registry.roleHolders(COORDINATOR)[0] == _COORDINATOR);
        assert(_registry.recoveryDelay() == _DELAY);
    }

    function test_FoundingEmitsAllThatItRecords() public {
        Registry.Founding memory founding = _founding(1, 1);
        VM.expectEmit();
        emit MemberKeys.MemberJoined(_org(0), _key(0), _NODE_KEY, _METADATA);
        VM.expectEmit();
        emit Registry.ThresholdChanged(0, 1);
        VM.expectEmit();
        emit Registry.AttestorAdded(_org(0));
        VM.expectEmit();
        emit Registry.AttestorThresholdChanged(0, 1);
        VM.expectEmit();
        emit Registry.RoleGranted(COORDINATOR, _COORDINATOR);
        VM.expectEmit();
        emit Registry.RoleGranted(PAUSER, _PAUSER);
        new Registry(founding);
    }

    function test_AStrangerIsNobody() public view {
        IRegistry registry = _registry;
        assert(registry.keyOf("nobody") == address(0) && !registry.isMember("nobody"));
        assert(registry.keyAt("nobody", 100) == address(0));
        assert(_registry.getMember("nobody").key == address(0));
        assert(_registry.keyHistory("nobody").length == 0);
        assert(_registry.holderOf(address(this)) == 0);
        assert(_registry.recoveryOf("nobody").newKey == address(0));
    }

    function test_TheDomainIsThatOfThisContractAndChain() public view {
        (, string memory name, string memory version, uint256 chain, address verifier,,) =
            _registry.eip712Domain();
        assert(keccak256(bytes(name)) == keccak256("Foedus Registry"));
        assert(keccak256(bytes(version)) == keccak256("1"));
        assert(chain == block.chainid && verifier == address(_registry));
    }

    function test_ABlockYetToComeIsRefused() public {
        VM.expectRevert(
            abi.encodeWithSelector(MemberKeys.MemberKeysFutureBlock.selector, 101, 100)
        );
        _registry.keyAt(_org(0), 101);
        VM.expectRevert(
            abi.encodeWithSelector(
                MemberKeys.MemberKeysFutureBlock.selector, type(uint256).max, 100
            )
        );
        _registry.isMemberAt(_org(0), type(uint256).max);
    }

    function testFuzz_ThresholdsLieBetweenTwoAndAllMembers(uint16 count, uint16 threshold) public {
        count %= 7;
        threshold %= 9;
        Registry.Founding memory founding = _founding(count, threshold);
        bool valid = count == 1 ? threshold == 1 : threshold >= 2 && threshold <= count;
        if (!valid) {
            VM.expectRevert(
                abi.encodeWithSelector(
                    Registry.RegistryThresholdOutOfRange.selector, threshold, count
                )
            );
        }
        new Registry(founding);
    }

    function testFuzz_AttestorThresholdsLieBetweenOneAndAllAttestors(uint8 count, uint16 threshold)
        public
    {
        count %= 5;
        threshold %= 7;
        Registry.Founding memory founding = _founding();
        founding.attestors = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) founding.attestors[i] = _org(i);
        founding.attestorThreshold = threshold;
        if (threshold == 0 || threshold > count) {
            VM.expectRevert(
                abi.encodeWithSelector(
                    Registry.RegistryAttestorThresholdOutOfRange.selector, threshold, count
                )
            );
        }
        new Registry(founding);
    }

    function test_FoundingRefusesZeros() public {
        Registry.Founding memory founding = _founding();
        founding.founders[1].organization = 0;
        _refusedZero(founding, "organization");
        founding = _founding();
        founding.founders[1].key = address(0);
        _refusedZero(founding, "key");
        founding = _founding();
        founding.founders[1].nodeKey = 0;
        _refusedZero(founding, "nodeKey");
        founding = _founding();
        founding.founders[1].metadata = 0;
        _refusedZero(founding, "metadata");
        founding = _founding();
        founding.coordinators[0] = address(0);
        _refusedZero(founding, "account");
        founding = _founding();
        founding.pauser = address(0);
        _refusedZero(founding, "account");
        founding = _founding();
        founding.recoveryDelay = 0;
        _refusedZero(founding, "recoveryDelay");
    }

    function test_FoundingRefusesAnOrganizationTwice() public {
        Registry.Founding memory founding = _founding();
        founding.founders[1].organization = _org(0);
        _refusedFounding(
            founding,
            abi.encodeWithSelector(MemberKeys.MemberKeysAlreadyMember.selector, _org(0))
        );
    }

    function test_FoundingRefusesAKeyTwice() public {
        Registry.Founding memory founding = _founding();
        founding.founders[1].key = _key(0);
        _refusedFounding(
            founding,
            abi.encodeWithSelector(MemberKeys.MemberKeysKeyTaken.selector, _key(0), _org(0))
        );
    }

    function test_FoundingRefusesAnAttestorThatIsNoMember() public {
        Registry.Founding memory founding = _founding();
        founding.attestors[1] = _org(9);
        _refusedFounding(
            founding, abi.encodeWithSelector(MemberKeys.MemberKeysNotMember.selector, _org(9))
        );
    }

    function test_FoundingRefusesAnAttestorTwice() public {
        Registry.Founding memory founding = _founding();
        founding.attestors[1] = _org(0);
        _refusedFounding(
            founding, abi.encodeWithSelector(Registry.RegistryAlreadyAttestor.selector, _org(0))
        );
    }

    function test_FoundingRefusesToDoWithoutACoordinator() public {
        Registry.Founding memory founding = _founding();
        founding.coordinators = new address[](0);
        _refusedFounding(
            founding, abi.encodeWithSelector(Registry.RegistryNoCoordinator.selector)
        );
    }

    function _refusedZero(Registry.Founding memory founding, string memory field) private {
        _refusedFounding(
            founding, abi.encodeWithSelector(MemberKeys.MemberKeysZeroValue.selector, field)
        );
    }

    function _refusedFounding(Registry.Founding memory founding, bytes memory revertData) private {
        VM.expectRevert(revertData);
        new Registry(founding);
    }
}
