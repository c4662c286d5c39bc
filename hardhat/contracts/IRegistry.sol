// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What other contracts ask the registry
/// @notice Organizations are named by an id that never changes; their signing keys come and go.
interface IRegistry {
    /// @notice Current signing key of an organization; zero if it is not a member.
    function keyOf(bytes32 organization) external view returns (address);

    /// @notice Signing key of an organization as of a block; zero if it was not a member.
    function keyAt(bytes32 organization, uint256 blockNumber) external view returns (address);

    /// @notice Whether an organization is a member now.
    function isMember(bytes32 organization) external view returns (bool);
}
