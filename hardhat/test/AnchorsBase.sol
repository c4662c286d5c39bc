// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Anchors} from "../contracts/Anchors.sol";
import {IRegistry} from "../contracts/IRegistry.sol";
import {VM} from "./Cheats.sol";
import {KeyRegistry} from "./KeyRegistry.sol";
import {TransparencyLog} from "./TransparencyLog.sol";

/// @dev An organization with a key and a ledger, and the contract that it anchors the ledger in.
abstract contract AnchorsBase {
    using TransparencyLog for bytes32[];

    /// @dev All that `Anchors.anchor` takes.
    struct Signed {
        bytes32 organization;
        uint64 size;
        bytes32 root;
        uint256 deadline;
        bytes signature;
        bytes32[] proof;
    }

    KeyRegistry internal _registry;
    Anchors internal _anchors;

    bytes32 internal constant _CINEMA = keccak256("cinema");
    uint256 internal constant _KEY = 0xA11CE;
    uint256 internal constant _DEADLINE = 2_000_000_000;

    function setUp() public virtual {
        _registry = new KeyRegistry();
        _anchors = new Anchors(IRegistry(address(_registry)));
        _registry.setKey(_CINEMA, VM.addr(_KEY));
    }

    /// @dev Signs and anchors the first `size` leaves, proven from the first `oldSize` of them.
    function _anchor(uint256 key, bytes32[] memory leaves, uint64 oldSize, uint64 size) internal {
        _bring(_cinema(key, leaves, oldSize, size));
    }

    function _bring(Signed memory s) internal {
        _anchors.anchor(s.organization, s.size, s.root, s.deadline, s.signature, s.proof);
    }

    /// @dev Brings an anchor that must be refused in these words.
    function _refuse(bytes memory reason, Signed memory s) internal {
        VM.expectRevert(reason);
        _bring(s);
    }

    /// @dev The organization's anchor of the first `size` leaves, proven from the first `oldSize`.
    function _cinema(uint256 key, bytes32[] memory leaves, uint64 oldSize, uint64 size)
        internal
        view
        returns (Signed memory)
    {
        bytes32[] memory proof = oldSize == 0 ? new bytes32[](0) : leaves.proof(oldSize, size);
        return _signed(key, _CINEMA, size, leaves.root(size), proof);
    }

    function _signed(
        uint256 key,
        bytes32 organization,
        uint64 size,
        bytes32 root,
        bytes32[] memory proof
    ) internal view returns (Signed memory) {
        bytes32 digest = _anchors.hashOf(organization, size, root, _DEADLINE);
        return Signed(organization, size, root, _DEADLINE, _sign(key, digest), proof);
    }

    function _sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }
}
