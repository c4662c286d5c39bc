// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What other contracts ask the rounds
interface IRounds {
    /// @notice A round's phase only ever moves forward: None, Open, then Void or Sealed, and from
    /// Sealed to Disputed or Final.
    enum Phase {
        None,
        Open,
        Void,
        Sealed,
        Disputed,
        Final
    }

    /// @notice Phase of a round; `None` for one never opened, or of an unknown task.
    function phaseOf(bytes32 task, uint64 round) external view returns (Phase);

    /// @notice What a round was sealed with beside its leaves and its adapter: the hash of its
    /// manifest, the root of the rewards and their total, folded into one digest (see
    /// `recordDigest`); zero for a round that is not sealed.
    function recordOf(bytes32 task, uint64 round) external view returns (bytes32);

    /// @notice Account that opened the task; zero for an unknown one.
    function coordinatorOf(bytes32 task) external view returns (address);

    /// @notice Digest that a seal stores: keccak-256 of `abi.encode` of its three arguments.
    function recordDigest(bytes32 manifestHash, bytes32 rewardsRoot, uint256 rewardsTotal)
        external
        pure
        returns (bytes32);
}
