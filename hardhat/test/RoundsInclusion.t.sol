// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {Rounds} from "../contracts/Rounds.sol";
import {VM} from "./Cheats.sol";
import {MerkleTree} from "./MerkleTree.sol";

/// @dev What stands under a sealed root, what does not, and what a seal costs.
contract RoundsInclusionTest {
    using MerkleTree for bytes32[];

    struct Leaf {
        bytes32 task;
        uint64 round;
        uint32 index;
        bytes32 organization;
        uint16 verdict;
        bytes32 updateHash;
    }

    Rounds private _rounds;
    bytes32 private _task;

    bytes32 private constant _GENESIS = keccak256("genesis");
    bytes32 private constant _MANIFEST = keccak256("manifest");
    bytes32 private constant _ADAPTER = keccak256("adapter");

    function setUp() public {
        _rounds = new Rounds();
        _task = _openedTask("terms");
    }

    function testFuzz_EverySealedLeafIsIncluded(uint8 size, uint256 seed) public {
        uint32 count = uint32(size) % 33 + 1;
        (Leaf[] memory leaves, bytes32[] memory hashes) = _leaves(count, seed);
        _rounds.seal(_task, 1, hashes.root(), count, _MANIFEST, _ADAPTER);
        for (uint256 i = 0; i < count; ++i) assert(_included(leaves[i], hashes.proof(i)));
    }

    function testFuzz_NoCorruptionOfAProofVerifies(uint8 size, uint256 seed, uint8 place) public {
        uint32 count = uint32(size) % 33 + 1;
        (Leaf[] memory leaves, bytes32[] memory hashes) = _leaves(count, seed);
        _rounds.seal(_task, 1, hashes.root(), count, _MANIFEST, _ADAPTER);
        uint256 index = place % count;
        bytes32[] memory proof = hashes.proof(index);

        Leaf memory leaf = _copy(leaves[index]);
        leaf.index = (leaf.index + 1) % count;
        assert(count == 1 || !_included(leaf, proof));
        leaf = _copy(leaves[index]);
        leaf.index += count;
        assert(!_included(leaf, proof));
        leaf = _copy(leaves[index]);
        leaf.round = 2;
        assert(!_included(leaf, proof));
        leaf = _copy(leaves[index]);
        leaf.task = keccak256("another task");
        assert(!_included(leaf, proof));
        leaf = _copy(leaves[index]);
        leaf.organization ^= bytes32(uint256(1));
        assert(!_included(leaf, proof));
        leaf = _copy(leaves[index]);
        leaf.verdict ^= 1;
        assert(!_included(leaf, proof));
        leaf = _copy(leaves[index]);
        leaf.updateHash ^= bytes32(uint256(1));
        assert(!_included(leaf, proof));

        leaf = leaves[index];
        assert(!_included(leaf, proof.append(bytes32(0))));
        assert(!_included(leaf, proof.append(hashes.root())));
        for (uint256 i = 0; i < proof.length; ++i) {
            proof[i] ^= bytes32(uint256(1) << (seed % 256));
            assert(!_included(leaf, proof));
            proof[i] ^= bytes32(uint256(1) << (seed % 256));
        }
        assert(_included(leaf, proof));
    }

    function testFuzz_ALeafIsHashedTwiceOverItsEncodedFields(Leaf memory leaf) public view {
        bytes32 once = keccak256(
            abi.encode(
                leaf.task, leaf.round, leaf.index, leaf.organization, leaf.verdict, leaf.updateHash
            )
        );
        assert(_hash(leaf) == keccak256(bytes.concat(once)));
    }

    /// @dev With single hashing, the 64 bytes of an inner node could be presented as a leaf's
    /// content. Neither an inner node nor its 64 bytes hash to what a leaf hashes to here.
    function test_TheSixtyFourByteForgeryFails() public {
        (Leaf[] memory leaves, bytes32[] memory hashes) = _leaves(4, 1);
        bytes32 root = hashes.root();
        _rounds.seal(_task, 1, root, 4, _MANIFEST, _ADAPTER);
        bytes32 left = Hashes.commutativeKeccak256(hashes[0], hashes[1]);
        bytes32 right = Hashes.commutativeKeccak256(hashes[2], hashes[3]);
        bytes memory content = left < right ? bytes.concat(left, right) : bytes.concat(right, left);
        assert(keccak256(content) == root);
        assert(keccak256(bytes.concat(keccak256(content))) != root);
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = right;
        for (uint256 i = 0; i < 4; ++i) {
            assert(!_included(leaves[i], proof));
            Leaf memory forged = _copy(leaves[i]);
            forged.updateHash = left;
            assert(!_included(forged, proof));
            forged.organization = left;
            forged.updateHash = right;
            assert(!_included(forged, new bytes32[](0)));
        }
    }

    function test_NothingIsIncludedBeforeTheSealNorInAVoidRound() public {
        (Leaf[] memory leaves,) = _leaves(1, 1);
        assert(!_included(leaves[0], new bytes32[](0)));
        _rounds.voidRound(_task, 1);
        assert(!_included(leaves[0], new bytes32[](0)));
    }

    function test_NothingIsIncludedInARoundWithoutLeaves() public {
        (Leaf[] memory leaves,) = _leaves(1, 1);
        _rounds.seal(_task, 1, 0, 0, _MANIFEST, _ADAPTER);
        assert(!_included(leaves[0], new bytes32[](0)));
    }

    function test_ALeafBeyondTheSealedCountIsRefusedEvenIfTheRootHoldsIt() public {
        (Leaf[] memory leaves, bytes32[] memory hashes) = _leaves(4, 1);
        _rounds.seal(_task, 1, hashes.root(), 3, _MANIFEST, _ADAPTER);
        assert(_included(leaves[2], hashes.proof(2)));
        assert(!_included(leaves[3], hashes.proof(3)));
    }

    function test_AProofDeeperThanAnyTreeIsRefusedEvenIfItWouldVerify() public {
        (Leaf[] memory leaves,) = _leaves(1, 1);
        assert(_chained(leaves[0], 32, "shallow"));
        assert(!_chained(leaves[0], 33, "deep"));
    }

    function test_SealCostsTheSameForOneTenAndAThousandLeaves() public {
        uint256 one = _gasOfSeal("one", 1);
        uint256 ten = _gasOfSeal("ten", 10);
        uint256 thousand = _gasOfSeal("thousand", 1000);
        assert(_within1Percent(one, ten) && _within1Percent(one, thousand));
        // Each is a whole transaction under `--gas-stats`, and less without its fixed costs.
        assert(one < 110_000);
    }

    /// @dev Seals `leaf` below `depth` made-up siblings and asks for it.
    function _chained(Leaf memory leaf, uint256 depth, string memory terms)
        private
        returns (bool)
    {
        leaf.task = _openedTask(terms);
        bytes32 hash = _hash(leaf);
        bytes32[] memory proof = new bytes32[](depth);
        for (uint256 i = 0; i < depth; ++i) {
            proof[i] = keccak256(abi.encode(i));
            hash = Hashes.commutativeKeccak256(hash, proof[i]);
        }
        _rounds.seal(leaf.task, 1, hash, 1, _MANIFEST, _ADAPTER);
        return _included(leaf, proof);
    }

    function _gasOfSeal(string memory terms, uint32 leafCount) private returns (uint256) {
        bytes32 task = _openedTask(terms);
        bytes32 root = keccak256(bytes(terms));
        uint256 before = gasleft();
        _rounds.seal(task, 1, root, leafCount, _MANIFEST, _ADAPTER);
        return before - gasleft();
    }

    function _within1Percent(uint256 a, uint256 b) private pure returns (bool) {
        return (a > b ? a - b : b - a) * 100 <= a;
    }

    function _openedTask(string memory terms) private returns (bytes32 task) {
        task = _rounds.openTask(keccak256(bytes(terms)), _GENESIS);
        _rounds.openRound(task, 1, _GENESIS);
    }

    function _leaves(uint32 count, uint256 seed)
        private
        view
        returns (Leaf[] memory leaves, bytes32[] memory hashes)
    {
        leaves = new Leaf[](count);
        hashes = new bytes32[](count);
        for (uint32 i = 0; i < count; ++i) {
            leaves[i] = Leaf({
                task: _task,
                round: 1,
                index: i,
                organization: keccak256(abi.encode("organization", seed, i)),
                verdict: uint16(seed >> (i % 200)) % 3,
                updateHash: keccak256(abi.encode("update", seed, i))
            });
            hashes[i] = _hash(leaves[i]);
        }
    }

    function _copy(Leaf memory leaf) private pure returns (Leaf memory) {
        return abi.decode(abi.encode(leaf), (Leaf));
    }

    function _hash(Leaf memory leaf) private view returns (bytes32) {
        return _rounds.leafHash(
            leaf.task, leaf.round, leaf.index, leaf.organization, leaf.verdict, leaf.updateHash
        );
    }

    function _included(Leaf memory leaf, bytes32[] memory proof) private view returns (bool) {
        return _rounds.isIncluded(
            leaf.task,
            leaf.round,
            leaf.index,
            leaf.organization,
            leaf.verdict,
            leaf.updateHash,
            proof
        );
    }
}
