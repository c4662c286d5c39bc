// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

/// @title Leaves of a round's tree
/// @notice Each leaf is one update and the verdict on it. The digest of the update names its task,
/// round and organization; the index keeps two leaves of a tree from ever being the same.
library LeafHash {
    /// @dev A tree of at most 2**32 leaves is no deeper than this.
    uint256 internal constant MAX_PROOF_LENGTH = 32;

    /// @notice Hash of one leaf.
    /// @dev Hashed twice, so that the 64 bytes of an inner node can never be passed off as a leaf.
    /// @param digest Digest of the update, by EIP-712.
    /// @param index Position of the leaf.
    /// @param verdict 0 for an accepted update, otherwise the code of the rejection.
    function hash(bytes32 digest, uint32 index, uint16 verdict) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(digest, index, verdict))));
    }

    /// @notice Whether a leaf stands under a root.
    /// @param root Root of the tree, its pairs sorted.
    /// @param leaf Hash of the leaf.
    /// @param proof Sibling hashes from the leaf up to the root.
    function verify(bytes32 root, bytes32 leaf, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        if (proof.length > MAX_PROOF_LENGTH) return false;
        return MerkleProof.verifyCalldata(proof, root, leaf);
    }
}
