// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Consistency proofs between two sizes of a transparency log
/// @notice Shows that a tree of RFC 9162, section 2.1 (SHA-256, inner nodes prefixed with 0x01),
/// begins with exactly the leaves of an earlier one.
/// @dev A root does not bind its size: sizes whose trees have the same path have the same proofs.
/// Whoever signs or stores a root therefore signs or stores its size beside it.
library ConsistencyProof {
    /// @notice Most hashes in a proof, enough up to 2**63 leaves.
    uint256 internal constant MAX_LENGTH = 64;

    /// @notice Whether `proof` shows that the new tree begins with the old (section 2.1.4.2).
    /// @param oldSize Number of leaves of the old tree, at least 1.
    /// @param newSize Number of leaves of the new tree. Equal sizes need equal roots and no proof.
    /// @param oldRoot Root of the old tree.
    /// @param newRoot Root of the new tree.
    /// @param proof Hashes as section 2.1.4.1 orders them.
    function verify(
        uint64 oldSize,
        uint64 newSize,
        bytes32 oldRoot,
        bytes32 newRoot,
        bytes32[] calldata proof
    ) internal pure returns (bool) {
        if (oldSize == 0 || oldSize > newSize || proof.length > MAX_LENGTH) return false;
        if (oldSize == newSize) return oldRoot == newRoot && proof.length == 0;
        if (proof.length == 0) return false;
        // Position of a node on the old tree's right edge, and of the last node of its level.
        uint256 node = oldSize - 1;
        uint256 last = newSize - 1;
        while (node & 1 == 1) (node, last) = (node >> 1, last >> 1);
        // A node that is now the leftmost one is the whole old tree: the proof leaves it out.
        uint256 next = node == 0 ? 0 : 1;
        bytes32 oldHash = node == 0 ? oldRoot : proof[0];
        bytes32 newHash = oldHash;
        for (; next < proof.length; ++next) {
            if (last == 0) return false;
            bytes32 sibling = proof[next];
            if (node & 1 == 1 || node == last) {
                oldHash = _parent(sibling, oldHash);
                newHash = _parent(sibling, newHash);
                // Without a sibling, the last node of a level moves up unchanged.
                while (node & 1 == 0 && node != 0) (node, last) = (node >> 1, last >> 1);
            } else {
                newHash = _parent(newHash, sibling);
            }
            (node, last) = (node >> 1, last >> 1);
        }
        return last == 0 && oldHash == oldRoot && newHash == newRoot;
    }

    function _parent(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x01), left, right));
    }
}
