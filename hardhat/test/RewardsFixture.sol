// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRounds} from "../contracts/IRounds.sol";
import {Rewards} from "../contracts/Rewards.sol";
import {VM} from "./Cheats.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {RegistryFixture} from "./RegistryFixture.sol";
import {SettableRounds} from "./SettableRounds.sol";

/// @dev A task that four organizations earn in, and rounds sealed with what each has earned. Leaves
/// and records are computed from their definitions, without the contract's help.
abstract contract RewardsFixture is RegistryFixture {
    using MerkleTree for bytes32[];

    /// @dev All that `Rewards.claim` takes.
    struct Claim {
        bytes32 task;
        uint64 round;
        bytes32 manifestHash;
        bytes32 rewardsRoot;
        uint256 rewardsTotal;
        bytes32 organization;
        uint256 amount;
        bytes32[] proof;
    }

    SettableRounds internal _rounds;
    Rewards internal _rewards;

    bytes32 internal constant _TASK = keccak256("task");
    bytes32 internal constant _OTHER_TASK = keccak256("other task");
    bytes32 internal constant _MANIFEST = keccak256("manifest");

    function setUp() public virtual override {
        super.setUp();
        _rounds = new SettableRounds();
        _rewards = new Rewards(_registry, _rounds);
        _rounds.setCoordinator(_TASK, _COORDINATOR);
        _rounds.setCoordinator(_OTHER_TASK, _COORDINATOR);
        VM.deal(address(this), 1e30);
    }

    function _amounts(uint256 a, uint256 b, uint256 c, uint256 d)
        internal
        pure
        returns (uint256[] memory amounts)
    {
        amounts = new uint256[](4);
        (amounts[0], amounts[1], amounts[2], amounts[3]) = (a, b, c, d);
    }

    function _total(uint256[] memory amounts) internal pure returns (uint256 total) {
        for (uint256 i = 0; i < amounts.length; ++i) total += amounts[i];
    }

    function _leaf(bytes32 task, bytes32 organization, uint256 amount)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(bytes.concat(keccak256(abi.encode(task, organization, amount))));
    }

    function _leaves(uint256[] memory amounts) internal pure returns (bytes32[] memory leaves) {
        leaves = new bytes32[](amounts.length);
        for (uint256 i = 0; i < amounts.length; ++i) leaves[i] = _leaf(_TASK, _org(i), amounts[i]);
    }

    /// @dev Makes a round final that was sealed with these amounts and this total.
    function _final(uint64 round, uint256[] memory amounts, uint256 total) internal {
        bytes32 record = keccak256(abi.encode(_MANIFEST, _leaves(amounts).root(), total));
        _rounds.setRound(_TASK, round, IRounds.Phase.Final, record);
    }

    /// @dev The same with the total that the amounts have.
    function _final(uint64 round, uint256[] memory amounts) internal {
        _final(round, amounts, _total(amounts));
    }

    /// @dev An organization's claim under a round that was sealed with these amounts.
    function _claim(uint64 round, uint256[] memory amounts, uint256 total, uint256 number)
        internal
        pure
        returns (Claim memory)
    {
        bytes32[] memory leaves = _leaves(amounts);
        return Claim({
            task: _TASK,
            round: round,
            manifestHash: _MANIFEST,
            rewardsRoot: leaves.root(),
            rewardsTotal: total,
            organization: _org(number),
            amount: amounts[number],
            proof: leaves.proof(number)
        });
    }

    function _claim(uint64 round, uint256[] memory amounts, uint256 number)
        internal
        pure
        returns (Claim memory)
    {
        return _claim(round, amounts, _total(amounts), number);
    }

    function _bring(Claim memory c) internal returns (uint256) {
        return _rewards.claim(
            c.task,
            c.round,
            c.manifestHash,
            c.rewardsRoot,
            c.rewardsTotal,
            c.organization,
            c.amount,
            c.proof
        );
    }

    /// @dev Brings a claim that must be refused in these words.
    function _refuse(bytes memory reason, Claim memory c) internal {
        VM.expectRevert(reason);
        _bring(c);
    }

    function _copy(Claim memory c) internal pure returns (Claim memory) {
        return abi.decode(abi.encode(c), (Claim));
    }
}
