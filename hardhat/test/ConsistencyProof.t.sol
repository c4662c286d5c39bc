// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ConsistencyProof} from "../contracts/ConsistencyProof.sol";
import {VM} from "./Cheats.sol";
import {TransparencyLog} from "./TransparencyLog.sol";

/// @dev The library as a contract, so that proofs come as calldata.
contract ConsistencyVerifier {
    function verify(
        uint64 oldSize,
        uint64 newSize,
        bytes32 oldRoot,
        bytes32 newRoot,
        bytes32[] calldata proof
    ) external pure returns (bool) {
        return ConsistencyProof.verify(oldSize, newSize, oldRoot, newRoot, proof);
    }
}

/// @dev Proofs of the vectors that Python reads too, and of trees built here by the RFC's words.
contract ConsistencyProofTest {
    using TransparencyLog for bytes32[];

    /// @dev A case of the vectors; the fields stand in alphabetical order, as they are decoded.
    struct Case {
        string name;
        bytes32 newRoot;
        uint64 newSize;
        bytes32 oldRoot;
        uint64 oldSize;
        bytes32[] proof;
        bool valid;
    }

    ConsistencyVerifier private _verifier;
    bytes32[] private _leaves;

    string private constant _VECTORS = "test/vectors/consistency.json";

    function setUp() public {
        _verifier = new ConsistencyVerifier();
        _leaves = TransparencyLog.make("log", 70);
    }

    function test_EachVectorVerifiesExactlyIfItIsValid() public view {
        Case[] memory cases =
            abi.decode(VM.parseJson(VM.readFile(_VECTORS), ".cases"), (Case[]));
        uint256 valid = 0;
        for (uint256 i = 0; i < cases.length; ++i) {
            Case memory c = cases[i];
            bool verified =
                _verifier.verify(c.oldSize, c.newSize, c.oldRoot, c.newRoot, c.proof);
            require(verified == c.valid, c.name);
            if (c.valid) ++valid;
        }
        assert(valid == 42 && cases.length > 400);
    }

    function test_TheReferenceLeavesHaveTheirKnownRoots() public view {
        string memory json = VM.readFile(_VECTORS);
        bytes[] memory leaves = VM.parseJsonBytesArray(json, ".leaves");
        bytes32[] memory roots = abi.decode(VM.parseJson(json, ".roots"), (bytes32[]));
        bytes32[] memory hashes = new bytes32[](leaves.length);
        for (uint256 i = 0; i < leaves.length; ++i) {
            hashes[i] = TransparencyLog.leafHash(leaves[i]);
        }
        assert(leaves.length == 8 && roots.length == 9);
        for (uint256 size = 0; size <= 8; ++size) assert(hashes.root(size) == roots[size]);
        assert(roots[8] == 0x5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328);
    }

    function test_EverySizeUpTo24IsConsistentWithEverySmallerOne() public view {
        for (uint64 newSize = 1; newSize <= 24; ++newSize) {
            for (uint64 oldSize = 1; oldSize <= newSize; ++oldSize) {
                assert(_verified(oldSize, newSize, _leaves.proof(oldSize, newSize)));
            }
        }
    }

    function testFuzz_EveryProofOfATreeVerifies(uint64 oldSize, uint64 newSize) public view {
        (oldSize, newSize) = _bounded(oldSize, newSize);
        assert(_verified(oldSize, newSize, _leaves.proof(oldSize, newSize)));
    }

    function testFuzz_NoCorruptionOfAProofVerifies(uint64 oldSize, uint64 newSize, uint8 bit)
        public
        view
    {
        (oldSize, newSize) = _bounded(oldSize, newSize);
        bytes32 flip = bytes32(uint256(1) << bit);
        bytes32 oldRoot = _leaves.root(oldSize);
        bytes32 newRoot = _leaves.root(newSize);
        bytes32[] memory proof = _leaves.proof(oldSize, newSize);
        assert(!_verifier.verify(oldSize, newSize, oldRoot ^ flip, newRoot, proof));
        assert(!_verifier.verify(oldSize, newSize, oldRoot, newRoot ^ flip, proof));
        assert(!_verified(0, newSize, proof));
        assert(!_verified(oldSize, 0, proof));
        assert(!_verified(oldSize, newSize, proof.append(0)));
        assert(!_verified(oldSize, newSize, proof.append(oldRoot)));
        assert(!_verified(oldSize, newSize, proof.append(newRoot)));
        if (oldSize != newSize) {
            assert(!_verifier.verify(oldSize, newSize, newRoot, oldRoot, proof));
            assert(!_verifier.verify(newSize, oldSize, newRoot, oldRoot, proof));
            assert(!_verifier.verify(oldSize, newSize, newRoot, newRoot, proof));
            assert(!_verifier.verify(oldSize, newSize, oldRoot, oldRoot, proof));
            assert(!_verified(oldSize, newSize, new bytes32[](0)));
        }
        for (uint256 i = 0; i < proof.length; ++i) {
            assert(!_verified(oldSize, newSize, proof.without(i)));
            proof[i] ^= flip;
            assert(!_verified(oldSize, newSize, proof));
            proof[i] ^= flip;
            if (i == 0) continue;
            (proof[i - 1], proof[i]) = (proof[i], proof[i - 1]);
            assert(!_verified(oldSize, newSize, proof));
            (proof[i - 1], proof[i]) = (proof[i], proof[i - 1]);
        }
        assert(_verified(oldSize, newSize, proof));
    }

    function testFuzz_AForkHasNoProof(uint64 oldSize, uint64 newSize, uint8 place) public {
        (oldSize, newSize) = _bounded(oldSize, newSize);
        bytes32 oldRoot = _leaves.root(oldSize);
        _leaves[place % oldSize] ^= bytes32(uint256(1));
        bytes32[] memory proof = _leaves.proof(oldSize, newSize);
        assert(!_verifier.verify(oldSize, newSize, oldRoot, _leaves.root(newSize), proof));
    }

    function testFuzz_NothingReverts(
        uint64 oldSize,
        uint64 newSize,
        bytes32 oldRoot,
        bytes32 newRoot,
        bytes32[] calldata proof
    ) public view {
        VM.assume(oldRoot != newRoot);
        assert(!_verifier.verify(oldSize, newSize, oldRoot, newRoot, proof));
    }

    function test_TheLargestSizesEnd() public view {
        uint64 size = type(uint64).max;
        bytes32 oldRoot = keccak256("the only leaf");
        bytes32[] memory proof = new bytes32[](64);
        bytes32 newRoot = oldRoot;
        for (uint256 i = 0; i < 64; ++i) {
            proof[i] = keccak256(abi.encode(i));
            newRoot = sha256(bytes.concat(bytes1(0x01), newRoot, proof[i]));
        }
        assert(_verifier.verify(1, size, oldRoot, newRoot, proof));
        assert(!_verifier.verify(2, size, oldRoot, newRoot, proof));
        assert(!_verifier.verify(size, size, oldRoot, newRoot, proof));
        assert(!_verifier.verify(size - 1, size, oldRoot, newRoot, proof));
    }

    /// @dev From 2**63 - 1 leaves to one more than 2**63 takes 65 hashes, from 2**62 - 1 to one
    /// more than 2**62 takes 64: the larger proof is right, and refused for its length alone.
    function test_AProofLongerThanTheBoundIsRefusedEvenIfItIsRight() public view {
        assert(_verifiedMadeUp(62));
        assert(!_verifiedMadeUp(63));
    }

    /// @dev What binds a size to a root is the signature over both.
    function test_ARootDoesNotBindItsSize() public view {
        assert(
            _verifier.verify(1, 5, _leaves[0], _leaves.root(8), _leaves.proof(1, 8))
        );
    }

    /// @dev Verifies a made-up proof from 2**height - 1 leaves to 2**height + 1.
    function _verifiedMadeUp(uint64 height) private view returns (bool) {
        uint64 oldSize = uint64(uint256(1) << height) - 1;
        // The old tree's last leaf, the sibling at its right, one at each height, and the right.
        bytes32[] memory proof = new bytes32[](height + 2);
        proof[0] = keccak256("start");
        bytes32 oldRoot = proof[0];
        proof[1] = keccak256("right");
        bytes32 newRoot = _parent(proof[0], proof[1]);
        for (uint256 i = 2; i <= height; ++i) {
            proof[i] = keccak256(abi.encode(i));
            oldRoot = _parent(proof[i], oldRoot);
            newRoot = _parent(proof[i], newRoot);
        }
        proof[height + 1] = keccak256("last");
        newRoot = _parent(newRoot, proof[height + 1]);
        return _verifier.verify(oldSize, oldSize + 2, oldRoot, newRoot, proof);
    }

    function _verified(uint64 oldSize, uint64 newSize, bytes32[] memory proof)
        private
        view
        returns (bool)
    {
        return _verifier.verify(
            oldSize, newSize, _leaves.root(oldSize), _leaves.root(newSize), proof
        );
    }

    function _bounded(uint64 oldSize, uint64 newSize) private pure returns (uint64, uint64) {
        newSize = newSize % 70 + 1;
        return (oldSize % newSize + 1, newSize);
    }

    function _parent(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return sha256(bytes.concat(bytes1(0x01), left, right));
    }
}
