// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev Reference log for the tests: the recursions of RFC 9162, section 2.1, as they stand there.
library TransparencyLog {
    /// @dev Hashes of the leaves "leaf 0", "leaf 1" and so on, of a log told apart by its name.
    function make(string memory name, uint256 size)
        internal
        pure
        returns (bytes32[] memory leaves)
    {
        leaves = new bytes32[](size);
        for (uint256 i = 0; i < size; ++i) {
            leaves[i] = leafHash(abi.encodePacked(name, " leaf ", i));
        }
    }

    function leafHash(bytes memory leaf) internal pure returns (bytes32) {
        return sha256(bytes.concat(bytes1(0x00), leaf));
    }

    /// @dev Root over the first `size` leaves.
    function root(bytes32[] memory leaves, uint256 size) internal pure returns (bytes32) {
        return _root(leaves, 0, size);
    }

    /// @dev Proof that the first `newSize` leaves extend the first `oldSize`.
    function proof(bytes32[] memory leaves, uint256 oldSize, uint256 newSize)
        internal
        pure
        returns (bytes32[] memory)
    {
        return _proof(leaves, oldSize, 0, newSize, true);
    }

    function append(bytes32[] memory hashes, bytes32 last)
        internal
        pure
        returns (bytes32[] memory longer)
    {
        longer = new bytes32[](hashes.length + 1);
        for (uint256 i = 0; i < hashes.length; ++i) longer[i] = hashes[i];
        longer[hashes.length] = last;
    }

    function without(bytes32[] memory hashes, uint256 dropped)
        internal
        pure
        returns (bytes32[] memory shorter)
    {
        shorter = new bytes32[](hashes.length - 1);
        for (uint256 i = 0; i < shorter.length; ++i) shorter[i] = hashes[i < dropped ? i : i + 1];
    }

    /// @dev MTH of section 2.1.1, over the leaves from `from` up to and without `to`.
    function _root(bytes32[] memory leaves, uint256 from, uint256 to)
        private
        pure
        returns (bytes32)
    {
        if (from == to) return sha256("");
        if (to - from == 1) return leaves[from];
        uint256 middle = from + _half(to - from);
        return sha256(
            bytes.concat(bytes1(0x01), _root(leaves, from, middle), _root(leaves, middle, to))
        );
    }

    /// @dev SUBPROOF of section 2.1.4.1, over the leaves from `from` up to and without `to`.
    function _proof(bytes32[] memory leaves, uint256 old, uint256 from, uint256 to, bool whole)
        private
        pure
        returns (bytes32[] memory)
    {
        uint256 size = to - from;
        bytes32[] memory none;
        if (old == size) return whole ? none : append(none, _root(leaves, from, to));
        uint256 half = _half(size);
        uint256 middle = from + half;
        return old <= half
            ? append(_proof(leaves, old, from, middle, whole), _root(leaves, middle, to))
            : append(_proof(leaves, old - half, middle, to, false), _root(leaves, from, middle));
    }

    /// @dev The largest power of two below `size`.
    function _half(uint256 size) private pure returns (uint256 half) {
        half = 1;
        while (half * 2 < size) half *= 2;
    }
}
