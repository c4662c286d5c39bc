// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev What `Anchors` asks of a registry, with a key for each organization set by whoever asks.
/// `AnchorsRegistry.t.sol` tests with the real one.
contract KeyRegistry {
    mapping(bytes32 organization => address) public keyOf;

    function setKey(bytes32 organization, address key) external {
        keyOf[organization] = key;
    }
}
