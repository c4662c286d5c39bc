// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev Role of the accounts that open, seal and void rounds. It holds no vote.
bytes32 constant COORDINATOR = keccak256("COORDINATOR");

/// @dev Role of the accounts that may pause what can be paused. It holds no vote.
bytes32 constant PAUSER = keccak256("PAUSER");

/// @title What other contracts ask the registry
/// @notice Organizations are named by an id that never changes; their signing keys come and go.
/// Where a block is given, the answer is as of the end of that block, and the key is the one that
/// was valid then, whatever became of it later. A block yet to come is refused.
interface IRegistry {
    /// @notice Current signing key of an organization; zero if it is not a member.
    function keyOf(bytes32 organization) external view returns (address);

    /// @notice Signing key of an organization as of a block; zero if it was not a member.
    function keyAt(bytes32 organization, uint256 blockNumber) external view returns (address);

    /// @notice Current signing key of an organization, or the one it left with; zero if it never
    /// was a member. What is owed to it, or asked by it, outlasts its membership.
    function lastKeyOf(bytes32 organization) external view returns (address);

    /// @notice Whether an organization is a member now.
    function isMember(bytes32 organization) external view returns (bool);

    /// @notice Whether an organization was a member as of a block.
    function isMemberAt(bytes32 organization, uint256 blockNumber) external view returns (bool);

    /// @notice Whether an account holds a role: `COORDINATOR` or `PAUSER`.
    function hasRole(bytes32 role, address account) external view returns (bool);

    /// @notice Number of attestors that an attestation needs.
    function attestorThreshold() external view returns (uint16);

    /// @notice Whether an organization is an attestor; only members ever are.
    function isAttestor(bytes32 organization) external view returns (bool);
}
