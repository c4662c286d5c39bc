// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {IRounds} from "../contracts/IRounds.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {RewardsFixture} from "./RewardsFixture.sol";

/// @dev From every valid proof of a reward, what somebody could make of it: none of it pays.
contract RewardsProofsTest is RewardsFixture {
    using MerkleTree for bytes32[];

    uint256[] private _earned;
    bytes32[] private _hashes;
    uint256 private _sum;

    /// @dev Everything but the round lies in the same state for each corruption, since a refused
    /// claim changes nothing; the untouched claim has to pay at last.
    function testFuzz_NoCorruptionOfAClaimPays(uint8 size, uint8 place, uint256 seed) public {
        Claim memory good = _sealedClaim(uint256(size) % 33 + 1, place, seed);
        _corruptTheFields(good);
        _corruptTheAmount(good);
        _corruptTheProof(good, seed);
        assert(_bring(good) == good.amount);
    }

    function test_NoCorruptionOfAnyOfElevenClaimsPays() public {
        for (uint256 i = 0; i < 11; ++i) {
            setUp();
            Claim memory good = _sealedClaim(11, i, 7);
            _corruptTheFields(good);
            _corruptTheAmount(good);
            _corruptTheProof(good, i);
            assert(_bring(good) == good.amount);
        }
    }

    function test_OneOrganizationsProofDoesNotPayAnother() public {
        _sealedClaim(8, 0, 1);
        for (uint256 i = 0; i < 4; ++i) {
            for (uint256 j = 0; j < 8; ++j) {
                if (i == j) continue;
                Claim memory mixed = _claim(1, _earned, i);
                mixed.proof = _hashes.proof(j);
                _unpaid(mixed, "another's proof");
                mixed = _claim(1, _earned, i);
                mixed.amount = _earned[j];
                _unpaid(mixed, "another's amount");
                mixed.proof = _hashes.proof(j);
                _unpaid(mixed, "another's amount and proof");
                mixed = _claim(1, _earned, i);
                mixed.organization = _org(j);
                _unpaid(mixed, "another's name");
            }
        }
    }

    /// @dev With single hashing, or with leaves of 64 bytes, an inner node could pass for a leaf.
    function test_TheSixtyFourByteForgeryDoesNotPay() public {
        Claim memory good = _sealedClaim(4, 0, 1);
        bytes32 left = Hashes.commutativeKeccak256(_hashes[0], _hashes[1]);
        bytes32 right = Hashes.commutativeKeccak256(_hashes[2], _hashes[3]);
        Claim memory forged = _copy(good);
        forged.amount = uint256(left);
        forged.proof = new bytes32[](1);
        forged.proof[0] = right;
        _unpaid(forged, "an inner node as the amount");
        forged.organization = left;
        forged.amount = uint256(right);
        forged.proof = new bytes32[](0);
        _unpaid(forged, "both inner nodes as the leaf");
        forged.task = left;
        _unpaid(forged, "both inner nodes as the leaf of a task");
        forged = _copy(good);
        forged.proof = new bytes32[](0);
        _unpaid(forged, "the root's own content");
        forged.rewardsRoot = _hashes[0];
        _unpaid(forged, "the leaf as the root");
    }

    function test_AnEarlierRoundsProofDoesNotPayUnderALaterRoot() public {
        Claim memory good = _sealedClaim(4, 1, 3);
        uint256[] memory later = new uint256[](4);
        for (uint256 i = 0; i < 4; ++i) later[i] = _earned[i] + 10 + i;
        _final(2, later);
        Claim memory next = _claim(2, later, 1);
        Claim memory mixed = _copy(next);
        mixed.proof = good.proof;
        _unpaid(mixed, "the earlier proof");
        mixed = _copy(next);
        mixed.round = 1;
        _unpaid(mixed, "the later root under the earlier round");
        mixed = _copy(good);
        mixed.round = 2;
        _unpaid(mixed, "the earlier root under the later round");
        mixed.rewardsTotal = next.rewardsTotal;
        _unpaid(mixed, "the earlier root with the later total");
        _bring(good);
    }

    function test_AnotherTasksSealDoesNotPayThisTasksLeaves() public {
        Claim memory good = _sealedClaim(4, 1, 3);
        _rewards.fund{value: _sum}(_OTHER_TASK);
        bytes32 record = _rounds.recordOf(_TASK, 1);
        _rounds.setRound(_OTHER_TASK, 1, IRounds.Phase.Final, record);
        Claim memory forged = _copy(good);
        forged.task = _OTHER_TASK;
        _unpaid(forged, "the same seal in another task");
        _bring(good);
        assert(_rewards.paidOf(_OTHER_TASK) == 0);
    }

    function _corruptTheFields(Claim memory good) private {
        Claim memory c = _copy(good);
        c.task = _OTHER_TASK;
        _unpaid(c, "another task");
        c.task = 0;
        _unpaid(c, "no task");
        c = _copy(good);
        c.round = 0;
        _unpaid(c, "round zero");
        c.round = 2;
        _unpaid(c, "a round never opened");
        c.round = type(uint64).max;
        _unpaid(c, "the last round of all");
        c = _copy(good);
        c.manifestHash ^= bytes32(uint256(1));
        _unpaid(c, "a bit of the manifest");
        c.manifestHash = 0;
        _unpaid(c, "no manifest");
        c = _copy(good);
        (c.manifestHash, c.rewardsRoot) = (c.rewardsRoot, c.manifestHash);
        _unpaid(c, "manifest and root exchanged");
        c = _copy(good);
        c.rewardsRoot ^= bytes32(uint256(1));
        _unpaid(c, "a bit of the root");
        c.rewardsRoot = 0;
        _unpaid(c, "no root");
        c.rewardsRoot = _leaf(c.task, c.organization, c.amount);
        c.proof = new bytes32[](0);
        if (_hashes.length > 1) _unpaid(c, "a root of one's own");
        c = _copy(good);
        c.rewardsTotal = good.rewardsTotal + 1;
        _unpaid(c, "a higher total");
        c.rewardsTotal = good.rewardsTotal - 1;
        _unpaid(c, "a lower total");
        c.rewardsTotal = 0;
        _unpaid(c, "no total");
        c.rewardsTotal = type(uint256).max;
        _unpaid(c, "the highest total of all");
        c = _copy(good);
        c.organization ^= bytes32(uint256(1));
        _unpaid(c, "a bit of the name");
        c.organization = 0;
        _unpaid(c, "no name");
        c.organization = bytes32(uint256(uint160(address(this))));
        _unpaid(c, "the caller's address as the name");
    }

    function _corruptTheAmount(Claim memory good) private {
        Claim memory c = _copy(good);
        c.amount = good.amount + 1;
        _unpaid(c, "one wei more");
        c.amount = good.amount - 1;
        _unpaid(c, "one wei less");
        c.amount = 2 * good.amount;
        _unpaid(c, "double");
        c.amount = 0;
        _unpaid(c, "nothing");
        if (good.rewardsTotal != good.amount) {
            c.amount = good.rewardsTotal;
            _unpaid(c, "the total");
        }
        c.amount = type(uint256).max;
        _unpaid(c, "everything");
        c.amount = good.amount | 1 << 255;
        _unpaid(c, "the highest bit");
        c.amount = good.amount + (1 << 128);
        _unpaid(c, "the same in 128 bits");
    }

    function _corruptTheProof(Claim memory good, uint256 seed) private {
        Claim memory c = _copy(good);
        c.proof = good.proof.append(0);
        _unpaid(c, "a zero behind");
        c.proof = good.proof.append(good.rewardsRoot);
        _unpaid(c, "the root behind");
        c.proof = good.proof.append(_leaf(c.task, c.organization, c.amount));
        _unpaid(c, "the leaf behind");
        c.proof = new bytes32[](40);
        _unpaid(c, "forty zeros");
        uint256 length = good.proof.length;
        if (length == 0) return;
        c.proof = new bytes32[](0);
        _unpaid(c, "no proof");
        c.proof = new bytes32[](length);
        _unpaid(c, "as many zeros");
        for (uint256 i = 0; i < length; ++i) {
            c = _copy(good);
            c.proof[i] ^= bytes32(uint256(1) << (seed % 256));
            _unpaid(c, "a bit of a sibling");
            c.proof[i] = 0;
            _unpaid(c, "a zero for a sibling");
            c.proof[i] = _leaf(c.task, c.organization, c.amount);
            _unpaid(c, "the leaf for a sibling");
            c.proof = _without(good.proof, i);
            _unpaid(c, "a sibling less");
            c.proof = good.proof.append(good.proof[i]);
            _unpaid(c, "a sibling twice");
            for (uint256 j = 0; j < i; ++j) {
                c = _copy(good);
                (c.proof[i], c.proof[j]) = (c.proof[j], c.proof[i]);
                _unpaid(c, "siblings exchanged");
            }
        }
    }

    /// @dev Brings a corrupt claim; names it if it pays after all.
    function _unpaid(Claim memory c, string memory what) private {
        uint256 balance = address(_rewards).balance;
        (bool paid,) = address(this).call(abi.encodeCall(this.brought, (c)));
        require(!paid && address(_rewards).balance == balance, what);
    }

    function brought(Claim calldata c) external {
        _bring(c);
    }

    /// @dev A final round of many leaves, fully funded, and the claim of one of the first four, who
    /// alone are members; all amounts differ, and none is zero.
    function _sealedClaim(uint256 count, uint256 place, uint256 seed)
        private
        returns (Claim memory)
    {
        delete _earned;
        for (uint256 i = 0; i < count; ++i) {
            _earned.push(uint256(keccak256(abi.encode(seed, i))) % 1e20 * 64 + i + 1);
        }
        _hashes = _leaves(_earned);
        _sum = _total(_earned);
        _final(1, _earned);
        _rewards.fund{value: 2 * _sum}(_TASK);
        uint256 number = place % count;
        for (uint256 i = 4; i <= number; ++i) {
            _executed(_admission(i, 0, _K));
        }
        return _claim(1, _earned, number);
    }

    function _without(bytes32[] memory hashes, uint256 left)
        private
        pure
        returns (bytes32[] memory shorter)
    {
        shorter = new bytes32[](hashes.length - 1);
        for (uint256 i = 0; i < shorter.length; ++i) shorter[i] = hashes[i < left ? i : i + 1];
    }
}
