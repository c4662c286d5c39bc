// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MemberKeys} from "../contracts/MemberKeys.sol";
import {Registry} from "../contracts/Registry.sol";
import {VM} from "./Cheats.sol";
import {RegistryFixture} from "./RegistryFixture.sol";

/// @dev What no choice of signers and no order of events ever breaks.
contract RegistryFuzzTest is RegistryFixture {
    uint256 private constant _BLOCKS = 24;

    function testFuzz_AChangeIsMadeExactlyByKMembersOrMore(uint8 size, uint8 needed, uint8 set)
        public
    {
        uint16 count = uint16(size) % 7 + 2;
        uint16 threshold = uint16(needed) % (count - 1) + 2;
        _registry = new Registry(_founding(count, threshold));
        Registry.Change memory change = _admission(9, 0, threshold);
        Registry.Approval[] memory all = _approvals(_digest(change), count);
        Registry.Approval[] memory chosen = new Registry.Approval[](count);
        uint256 length = 0;
        for (uint256 i = 0; i < count; ++i) if (set >> i & 1 != 0) chosen[length++] = all[i];
        assembly ("memory-safe") {
            mstore(chosen, length)
        }
        if (length < threshold) {
            VM.expectRevert(
                abi.encodeWithSelector(
                    Registry.RegistryTooFewApprovals.selector, length, threshold
                )
            );
        }
        _registry.execute(change, chosen);
        assert(_registry.isMember(_org(9)) == (length >= threshold));
    }

    /// @dev Approvals in any order, in the name of members and others, signed by any of their keys
    /// over this change or another: what passes was signed by `_K` distinct members.
    function testFuzz_NoFewerThanKDistinctMembersEverChangeTheMembership(
        uint8[6] memory names,
        uint8[6] memory signers,
        uint8 honest,
        uint8 other,
        uint8 length
    ) public {
        Registry.Change memory change = _admission(9, 0, 3);
        bytes32 digest = _digest(change);
        bytes32 foreign = _digest(_removal(3, 3));
        Registry.Approval[] memory approvals = new Registry.Approval[](length % 7);
        uint256 signed = 0;
        for (uint256 i = 0; i < approvals.length; ++i) {
            // Half of the names come in order, and most are signed for by their own key.
            uint256 name = other & 1 == 0 ? i : names[i] % 6;
            uint256 signer = honest >> i & 1 != 0 ? name : signers[i] % 6;
            bool same = other >> (i + 1) & 1 == 0 || names[i] > 128;
            approvals[i].organization = _org(name);
            approvals[i].signature = _signed(_secret(signer), same ? digest : foreign);
            if (same && signer < _COUNT) signed |= 1 << signer;
        }
        try _registry.execute(change, approvals) {
            assert(_bits(signed) >= _K);
        } catch {
            assert(_registry.memberCount() == _COUNT && !_registry.isMember(_org(9)));
            assert(_registry.changeNonce() == 0);
        }
    }

    /// @dev One key alone, in as many names and as often as it likes.
    function testFuzz_NoSingleKeyChangesTheMembership(uint8 signer, uint8[4] memory names) public {
        signer %= 4;
        _registry = new Registry(_founding(4, 2));
        Registry.Change memory change = _admission(9, 0, 2);
        bytes memory signature = _signed(_secret(signer), _digest(change));
        Registry.Approval[] memory approvals = new Registry.Approval[](4);
        for (uint256 i = 0; i < 4; ++i) {
            approvals[i] = Registry.Approval(_org(names[i] % 6), signature);
        }
        try _registry.execute(change, approvals) {
            assert(false);
        } catch {
            assert(!_registry.isMember(_org(9)));
        }
    }

    /// @dev Whatever befalls an organization in a block, its keys of the blocks before stay.
    function testFuzz_HistoryNeverChanges(uint8[24] memory acts) public {
        address[_BLOCKS] memory expected;
        uint256 generation = 0;
        for (uint256 i = 0; i < _BLOCKS; ++i) {
            VM.roll(200 + i);
            generation = _act(acts[i] % 6, generation);
            expected[i] = _registry.keyOf(_org(3));
            for (uint256 j = 0; j <= i; ++j) {
                assert(_registry.keyAt(_org(3), 200 + j) == expected[j]);
                assert(_registry.isMemberAt(_org(3), 200 + j) == (expected[j] != address(0)));
            }
            assert(_registry.isMember(_org(3)) == (expected[i] != address(0)));
            assert(_registry.keyAt(_org(3), 199) == _key(3));
            assert(_registry.keyAt(_org(3), 99) == address(0));
        }
        MemberKeys.KeyPeriod[] memory history = _registry.keyHistory(_org(3));
        for (uint256 i = 1; i < history.length; ++i) {
            assert(history[i].fromBlock > history[i - 1].fromBlock);
        }
    }

    /// @dev One event in the life of organization 3; returns the generation of its last key.
    function _act(uint256 act, uint256 generation) private returns (uint256) {
        uint256 next = generation + 1;
        if (!_registry.isMember(_org(3))) {
            if (act < 2) return generation;
            _executed(_admission(3, next, 3));
            return next;
        }
        if (act == 0) return generation;
        if (act == 1) {
            _executed(_removal(3, 3));
            return generation;
        }
        if (act == 2) {
            _executed(_recovery(3, next));
            VM.warp(block.timestamp + _DELAY);
            _registry.completeRecovery(_org(3));
            VM.warp(1000);
            return next;
        }
        if (act == 3) {
            bytes32 digest = _departureDigest(3, _registry.nonceOf(_org(3)));
            _registry.depart(_org(3), _DEADLINE, _signed(_secret(3, generation), digest));
            return generation;
        }
        _rotated(3, generation);
        if (act == 4) return next;
        _rotated(3, next);
        return next + 1;
    }

    function _bits(uint256 set) private pure returns (uint256 count) {
        for (; set != 0; set &= set - 1) ++count;
    }
}
