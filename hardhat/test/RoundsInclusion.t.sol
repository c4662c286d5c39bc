// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev What stands under a sealed root, and what does not.
contract RoundsInclusionTest is RoundsFixture {
    using MerkleTree for bytes32[];

    /// @dev All that `isIncluded` takes.
    struct Claim {
        bytes32 task;
        uint64 round;
        uint32 index;
        uint16 verdict;
        bytes32 digest;
        bytes32[] proof;
    }

    Submissions.ModelUpdate[] private _updates;
    uint256 private _tried;

    function setUp() public override {
        super.setUp();
        _open(1);
    }

    function testFuzz_EverySealedLeafIsIncluded(uint8 size, uint256 seed) public {
        (Claim[] memory claims,) = _sealed(uint32(size) % 33 + 1, seed);
        for (uint256 i = 0; i < claims.length; ++i) assert(_included(claims[i]));
    }

    function testFuzz_ALeafIsHashedTwiceOverItsEncodedFields(
        bytes32 digest,
        uint32 index,
        uint16 verdict
    ) public view {
        assert(_rounds.leafHash(digest, index, verdict) == _leaf(digest, index, verdict));
    }

    function testFuzz_NoCorruptedPositionOrVerdictVerifies(uint8 size, uint256 seed, uint8 place)
        public
    {
        (Claim[] memory claims,) = _sealed(uint32(size) % 33 + 1, seed);
        uint32 count = uint32(claims.length);
        Claim memory valid = claims[place % count];
        Claim memory claim = _copy(valid);
        claim.index = (valid.index + 1) % count;
        _refuses("the next index", claim, valid);
        claim.index = (valid.index + count - 1) % count;
        _refuses("the index before", claim, valid);
        claim.index = count - 1 - valid.index;
        _refuses("the index counted from the end", claim, valid);
        claim.index = valid.index + count;
        _refuses("the index past the end", claim, valid);
        claim.index = count;
        _refuses("the first index past the end", claim, valid);
        claim.index = type(uint32).max;
        _refuses("the greatest index", claim, valid);
        claim.index = valid.index ^ (1 << 31);
        _refuses("the index with its highest bit flipped", claim, valid);
        claim.index = valid.index ^ 1;
        _refuses("the index with its lowest bit flipped", claim, valid);
        claim = _copy(valid);
        claim.verdict = valid.verdict + 1;
        _refuses("the next verdict", claim, valid);
        claim.verdict = valid.verdict ^ 1;
        _refuses("the verdict with its lowest bit flipped", claim, valid);
        claim.verdict = valid.verdict ^ (1 << 15);
        _refuses("the verdict with its highest bit flipped", claim, valid);
        claim.verdict = 0;
        _refuses("acceptance", claim, valid);
        claim.verdict = type(uint16).max;
        _refuses("the greatest verdict", claim, valid);
        claim = _copy(valid);
        (claim.index, claim.verdict) = (valid.verdict, uint16(valid.index));
        _refuses("index and verdict swapped", claim, valid);
        assert(_tried >= 8 && _included(valid));
    }

    function testFuzz_NoCorruptedUpdateVerifies(uint8 size, uint256 seed, uint8 place) public {
        (Claim[] memory claims, bytes32[] memory hashes) = _sealed(uint32(size) % 33 + 1, seed);
        uint256 index = place % claims.length;
        Claim memory valid = claims[index];
        Claim memory claim = _copy(valid);
        claim.digest = 0;
        _refuses("no update", claim, valid);
        claim.digest = ~valid.digest;
        _refuses("all bits flipped", claim, valid);
        claim.digest = valid.digest ^ bytes32(uint256(1));
        _refuses("the lowest bit flipped", claim, valid);
        claim.digest = valid.digest ^ bytes32(uint256(1) << 255);
        _refuses("the highest bit flipped", claim, valid);
        claim.digest = valid.digest ^ bytes32(uint256(1) << (seed % 256));
        _refuses("some bit flipped", claim, valid);
        claim.digest = hashes[index];
        _refuses("the leaf in place of the update", claim, valid);
        claim.digest = hashes.root();
        _refuses("the root in place of the update", claim, valid);
        claim.digest = keccak256(bytes.concat(valid.digest));
        _refuses("the update hashed once more", claim, valid);
        claim.digest = claims[(index + 1) % claims.length].digest;
        _refuses("the update of the next leaf", claim, valid);
        claim.digest = _structHash(_updates[index]);
        _refuses("the update without its domain", claim, valid);
        claim.digest = _typed(_structHash(_updates[index]), block.chainid + 1, address(_rounds));
        _refuses("the update on another chain", claim, valid);
        claim.digest = _typed(_structHash(_updates[index]), block.chainid, address(this));
        _refuses("the update for another contract", claim, valid);
        for (uint256 field = 0; field < 8; ++field) {
            claim.digest = _digestOf(_changed(_updates[index], field));
            _refuses("an update with one field changed", claim, valid);
        }
        assert(_tried >= 18 && _included(valid));
    }

    function testFuzz_NoProofVerifiesInAnotherRoundOrTask(uint8 size, uint256 seed, uint8 place)
        public
    {
        (Claim[] memory claims,) = _sealed(uint32(size) % 33 + 1, seed);
        Claim memory valid = claims[place % claims.length];
        Claim memory claim = _copy(valid);
        claim.round = 2;
        _refuses("a round never opened", claim, valid);
        _open(2);
        _refuses("an open round", claim, valid);
        _seal(2);
        _refuses("another sealed round", claim, valid);
        claim.round = 0;
        _refuses("round zero", claim, valid);
        claim.round = type(uint64).max;
        _refuses("the greatest round", claim, valid);
        claim.round = (1 << 32) + 1;
        _refuses("the round with a bit that its number has no room for", claim, valid);
        claim = _copy(valid);
        claim.task = 0;
        _refuses("task zero", claim, valid);
        claim.task = valid.task ^ bytes32(uint256(1));
        _refuses("an unknown task", claim, valid);
        claim.task = _openedTask("other");
        _task = claim.task;
        _open(1);
        _refuses("another task's open round", claim, valid);
        _seal(1);
        _refuses("another task's sealed round", claim, valid);
        assert(_tried == 10 && _included(valid));
    }

    function testFuzz_NoCorruptedProofVerifies(uint8 size, uint256 seed, uint8 place) public {
        (Claim[] memory claims, bytes32[] memory hashes) = _sealed(uint32(size) % 32 + 2, seed);
        uint256 index = place % claims.length;
        Claim memory valid = claims[index];
        Claim memory claim = _copy(valid);
        uint256 length = valid.proof.length;
        bytes32 bit = bytes32(uint256(1) << (seed % 256));
        for (uint256 i = 0; i < length; ++i) {
            bytes32 sibling = valid.proof[i];
            claim.proof[i] = sibling ^ bit;
            _refuses("a bit of a sibling flipped", claim, valid);
            claim.proof[i] = ~sibling;
            _refuses("all bits of a sibling flipped", claim, valid);
            claim.proof[i] = 0;
            _refuses("a sibling zero", claim, valid);
            claim.proof[i] = hashes[index];
            _refuses("the leaf as its own sibling", claim, valid);
            claim.proof[i] = hashes.root();
            _refuses("the root as a sibling", claim, valid);
            claim.proof[i] = keccak256(bytes.concat(sibling));
            _refuses("a sibling hashed once more", claim, valid);
            claim.proof[i] = sibling;
            if (i == 0) continue;
            (claim.proof[i - 1], claim.proof[i]) = (sibling, valid.proof[i - 1]);
            _refuses("two siblings swapped", claim, valid);
            (claim.proof[i - 1], claim.proof[i]) = (valid.proof[i - 1], sibling);
        }
        claim.proof = new bytes32[](0);
        _refuses("no proof", claim, valid);
        claim.proof = valid.proof.append(0);
        _refuses("a zero at its end", claim, valid);
        claim.proof = valid.proof.append(hashes.root());
        _refuses("the root at its end", claim, valid);
        claim.proof = valid.proof.append(hashes[index]);
        _refuses("the leaf at its end", claim, valid);
        claim.proof = valid.proof.append(valid.proof[length - 1]);
        _refuses("the last sibling twice", claim, valid);
        claim.proof = _prefixed(valid.proof[0], valid.proof);
        _refuses("the first sibling twice", claim, valid);
        claim.proof = _prefixed(0, valid.proof);
        _refuses("a zero at its start", claim, valid);
        claim.proof = _prefixed(hashes[index], valid.proof);
        _refuses("the leaf at its start", claim, valid);
        claim.proof = _slice(valid.proof, 0, length - 1);
        _refuses("without its last sibling", claim, valid);
        claim.proof = _slice(valid.proof, 1, length);
        _refuses("without its first sibling", claim, valid);
        claim.proof = _reversed(valid.proof);
        _refuses("backwards", claim, valid);
        claim.proof = claims[(index + 1) % claims.length].proof;
        _refuses("the proof of the next leaf", claim, valid);
        claim.proof = new bytes32[](length);
        _refuses("nothing but zeros", claim, valid);
        claim.proof = new bytes32[](32);
        _refuses("the longest of zeros", claim, valid);
        claim.proof = new bytes32[](33);
        _refuses("longer than any", claim, valid);
        assert(_tried >= 15 && _included(valid));
    }

    /// @dev With single hashing, the 64 bytes of an inner node could be presented as a leaf's
    /// content. Neither an inner node nor its 64 bytes hash to what a leaf hashes to here.
    function test_TheSixtyFourByteForgeryFails() public {
        (Claim[] memory claims, bytes32[] memory hashes) = _sealed(4, 1);
        bytes32 left = Hashes.commutativeKeccak256(hashes[0], hashes[1]);
        bytes32 right = Hashes.commutativeKeccak256(hashes[2], hashes[3]);
        bytes memory content = left < right ? bytes.concat(left, right) : bytes.concat(right, left);
        assert(keccak256(content) == hashes.root());
        assert(keccak256(bytes.concat(keccak256(content))) != hashes.root());
        for (uint256 i = 0; i < 4; ++i) {
            Claim memory claim = _copy(claims[i]);
            claim.proof = new bytes32[](1);
            claim.proof[0] = right;
            _refuses("the proof of an inner node", claim, claims[i]);
            claim.digest = left;
            _refuses("an inner node as an update", claim, claims[i]);
            claim.proof = new bytes32[](0);
            _refuses("the left half of the root as an update", claim, claims[i]);
            claim.digest = hashes.root();
            _refuses("the root as an update", claim, claims[i]);
            claim.digest = keccak256(content);
            claim.proof = new bytes32[](2);
            (claim.proof[0], claim.proof[1]) = (left, right);
            _refuses("both halves as a proof", claim, claims[i]);
        }
        assert(_tried == 20);
    }

    function test_NothingIsIncludedBeforeTheSealNorInAVoidRound() public {
        Claim memory claim = _single(_update(0, 1));
        assert(!_included(claim));
        _void(1);
        assert(!_included(claim));
    }

    function test_NothingIsIncludedInARoundWithoutLeaves() public {
        Claim memory claim = _single(_update(0, 1));
        VM.prank(_lead);
        _rounds.seal(_task, 1, 0, 0, _GENESIS, _MANIFEST, 0, 0);
        assert(!_included(claim));
    }

    function test_WhatIsIncludedStaysIncludedOnceFinalAndOnceDisputed() public {
        Submissions.ModelUpdate memory update = _update(0, 1);
        _sealedWith(1, update);
        _finalize(1);
        assert(_included(_single(update)));
        _open(2);
        update = _update(0, 2);
        _sealedWith(2, update);
        _challenge(_update(1, 2));
        VM.warp(block.timestamp + _WINDOW + _RESPONSE + 1);
        _rounds.dispute(_task, 2);
        Claim memory claim = _single(update);
        claim.round = 2;
        assert(_included(claim));
    }

    function test_ALeafBeyondTheSealedCountIsRefusedEvenIfTheRootHoldsIt() public {
        (Claim[] memory claims, bytes32[] memory hashes) = _claims(4, 1);
        _seal(1, hashes.root(), 3);
        assert(_included(claims[2]));
        assert(!_included(claims[3]));
    }

    function test_AProofDeeperThanAnyTreeIsRefusedEvenIfItWouldVerify() public {
        assert(_chained(32));
        _open(2);
        assert(!_chained(33));
    }

    /// @dev Seals a leaf below `depth` made-up siblings, in the round that is open, and asks for
    /// it.
    function _chained(uint256 depth) private returns (bool) {
        Claim memory claim = _single(_update(0, 1));
        claim.round = _rounds.getTask(_task).lastRound;
        claim.proof = new bytes32[](depth);
        bytes32 hash = _leaf(claim.digest, 0, 0);
        for (uint256 i = 0; i < depth; ++i) {
            claim.proof[i] = keccak256(abi.encode(i));
            hash = Hashes.commutativeKeccak256(hash, claim.proof[i]);
        }
        _seal(claim.round, hash, 1);
        return _included(claim);
    }

    /// @dev Seals round 1 with so many updates, each of which `claims` proves.
    function _sealed(uint32 count, uint256 seed)
        private
        returns (Claim[] memory claims, bytes32[] memory hashes)
    {
        (claims, hashes) = _claims(count, seed);
        _seal(1, hashes.root(), count);
    }

    function _claims(uint32 count, uint256 seed)
        private
        returns (Claim[] memory claims, bytes32[] memory hashes)
    {
        claims = new Claim[](count);
        hashes = new bytes32[](count);
        for (uint32 i = 0; i < count; ++i) {
            Submissions.ModelUpdate memory update = _update(0, 1);
            update.organization = keccak256(abi.encode("organization", seed, i));
            update.commitment = keccak256(abi.encode("update", seed, i));
            _updates.push(update);
            claims[i] = _single(update);
            claims[i].index = i;
            claims[i].verdict = uint16(seed >> (i % 200)) % 3;
            hashes[i] = _leaf(claims[i].digest, i, claims[i].verdict);
        }
        for (uint256 i = 0; i < count; ++i) claims[i].proof = hashes.proof(i);
    }

    /// @dev Makes sure that a claim is refused, unless it happens to be the valid one.
    function _refuses(string memory name, Claim memory claim, Claim memory valid) private {
        if (keccak256(abi.encode(claim)) == keccak256(abi.encode(valid))) return;
        ++_tried;
        require(!_included(claim), name);
    }

    function _included(Claim memory claim) private view returns (bool) {
        return _rounds.isIncluded(
            claim.task, claim.round, claim.index, claim.verdict, claim.digest, claim.proof
        );
    }

    function _single(Submissions.ModelUpdate memory update) private view returns (Claim memory) {
        return Claim(_task, 1, 0, 0, _digestOf(update), new bytes32[](0));
    }

    function _changed(Submissions.ModelUpdate memory update, uint256 field)
        private
        pure
        returns (Submissions.ModelUpdate memory)
    {
        bytes32 bit = bytes32(uint256(1));
        if (field == 0) update.task ^= bit;
        if (field == 1) update.round ^= 1;
        if (field == 2) update.organization ^= bit;
        if (field == 3) update.parentAdapter ^= bit;
        if (field == 4) update.terms ^= bit;
        if (field == 5) update.commitment ^= bit;
        if (field == 6) update.numExamples ^= 1;
        if (field == 7) update.deadline ^= 1;
        return update;
    }

    function _copy(Claim memory claim) private pure returns (Claim memory) {
        return abi.decode(abi.encode(claim), (Claim));
    }

    function _prefixed(bytes32 first, bytes32[] memory proof)
        private
        pure
        returns (bytes32[] memory longer)
    {
        longer = new bytes32[](proof.length + 1);
        longer[0] = first;
        for (uint256 i = 0; i < proof.length; ++i) longer[i + 1] = proof[i];
    }

    function _slice(bytes32[] memory proof, uint256 start, uint256 end)
        private
        pure
        returns (bytes32[] memory part)
    {
        part = new bytes32[](end - start);
        for (uint256 i = start; i < end; ++i) part[i - start] = proof[i];
    }

    function _reversed(bytes32[] memory proof) private pure returns (bytes32[] memory backwards) {
        backwards = new bytes32[](proof.length);
        for (uint256 i = 0; i < proof.length; ++i) backwards[proof.length - 1 - i] = proof[i];
    }
}
