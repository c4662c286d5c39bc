// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "../contracts/IRegistry.sol";

/// @dev Stands for the registry: a key for each organization, set by whoever asks.
contract KeyRegistry is IRegistry {
    mapping(bytes32 organization => address) public keyOf;

    function setKey(bytes32 organization, address key) external {
        keyOf[organization] = key;
    }

    function keyAt(bytes32 organization, uint256) external view returns (address) {
        return keyOf[organization];
    }

    function isMember(bytes32 organization) external view returns (bool) {
        return keyOf[organization] != address(0);
    }
}
