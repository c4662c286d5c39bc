// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev The few of the test runner's cheat codes that the tests use.
interface Vm {
    function prank(address caller) external;
    function chainId(uint256 id) external;
    function roll(uint256 blockNumber) external;
    function warp(uint256 timestamp) external;
    function deal(address account, uint256 balance) external;
    function etch(address account, bytes calldata code) external;
    function addr(uint256 secretKey) external pure returns (address);
    function sign(uint256 secretKey, bytes32 digest)
        external
        pure
        returns (uint8 v, bytes32 r, bytes32 s);
    function readFile(string calldata path) external view returns (string memory);
    function parseJson(string calldata json, string calldata key)
        external
        pure
        returns (bytes memory);
    function parseJsonBytesArray(string calldata json, string calldata key)
        external
        pure
        returns (bytes[] memory);
    function expectRevert(bytes calldata revertData) external;
    function expectEmit() external;
    function assume(bool condition) external pure;
}

/// @dev The address at which every Solidity test runner offers its cheat codes.
Vm constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
