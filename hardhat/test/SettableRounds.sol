// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRounds} from "../contracts/IRounds.sol";

/// @dev What other contracts ask the rounds, with every answer set by whoever asks. Together with
/// the real one they are tested in Python.
contract SettableRounds is IRounds {
    mapping(bytes32 task => address) public coordinatorOf;
    mapping(bytes32 task => mapping(uint64 round => Phase)) public phaseOf;
    mapping(bytes32 task => mapping(uint64 round => bytes32)) public recordOf;

    function setCoordinator(bytes32 task, address coordinator) external {
        coordinatorOf[task] = coordinator;
    }

    function setRound(bytes32 task, uint64 round, Phase phase, bytes32 record) external {
        phaseOf[task][round] = phase;
        recordOf[task][round] = record;
    }

    function recordDigest(bytes32 manifestHash, bytes32 rewardsRoot, uint256 rewardsTotal)
        external
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(manifestHash, rewardsRoot, rewardsTotal));
    }
}
