// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Money that accounts are owed, until each fetches its own
/// @notice Nothing here sends money to an account that did not ask for it, so no account can hold
/// up what happens to others by refusing it.
abstract contract Credits {
    mapping(address account => uint256) private _credits;

    /// @notice An account is owed more than before.
    event Credited(address indexed account, uint256 amount);

    /// @notice An account fetched all that it was owed.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice The account is owed nothing.
    error CreditsNothingOwed(address account);

    /// @notice The account did not take what it was sent.
    error CreditsTransferFailed(address account, uint256 amount);

    /// @notice Sends the caller all that it is owed.
    function withdraw() external {
        uint256 amount = _credits[msg.sender];
        if (amount == 0) revert CreditsNothingOwed(msg.sender);
        _credits[msg.sender] = 0;
        emit Withdrawn(msg.sender, amount);
        (bool sent,) = msg.sender.call{value: amount}("");
        if (!sent) revert CreditsTransferFailed(msg.sender, amount);
    }

    /// @notice Wei that an account may withdraw.
    function creditOf(address account) external view returns (uint256) {
        return _credits[account];
    }

    function _credit(address account, uint256 amount) internal {
        _credits[account] += amount;
        emit Credited(account, amount);
    }
}
