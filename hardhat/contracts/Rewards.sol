// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IRegistry} from "./IRegistry.sol";
import {IRounds} from "./IRounds.sol";

/// @title Rewards of the organizations
/// @notice Anyone funds a task. A round that became final says, under the root that it was sealed
/// with, how much each organization has earned in the task so far, and anyone may have the rest of
/// it paid to that organization's key. Nobody owns this contract, nothing in it can be paused, and
/// what was given to a task can be had in no other way.
/// @dev Amounts are in wei and add up over the rounds of a task, so that one claim pays for all
/// rounds before it and none pays twice. A coordinator whose leaves come to more than its total
/// cannot overdraw: what a task has paid never exceeds the highest total proven so far, which never
/// exceeds what the task was given.
contract Rewards {
    using SafeCast for uint256;

    /// @dev Two words for each task. `highestTotal` is the highest total that a claim proved.
    struct Pot {
        uint128 funded;
        uint128 paid;
        uint128 highestTotal;
    }

    /// @notice Where the keys of the organizations are looked up.
    IRegistry public immutable REGISTRY;

    /// @notice Where the rounds and their records are looked up.
    IRounds public immutable ROUNDS;

    mapping(bytes32 task => Pot) private _pots;
    mapping(bytes32 task => mapping(bytes32 organization => uint256)) private _claimed;

    /// @notice A task was given money for its rewards.
    event Funded(bytes32 indexed task, address indexed funder, uint256 amount);

    /// @notice An organization was paid.
    /// @param task Task that the reward is for.
    /// @param organization Organization that earned it.
    /// @param recipient Key that it went to.
    /// @param round Final round that proves it.
    /// @param amount What the organization has been paid in this task so far, this included.
    /// @param payout What it was paid now.
    event RewardPaid(
        bytes32 indexed task,
        bytes32 indexed organization,
        address indexed recipient,
        uint64 round,
        uint256 amount,
        uint256 payout
    );

    /// @notice There is no contract at the registry's address.
    error RewardsNoRegistry(address registry);

    /// @notice There is no contract at the rounds' address.
    error RewardsNoRounds(address rounds);

    /// @notice Nobody opened such a task.
    error RewardsUnknownTask(bytes32 task);

    /// @notice Funding is more than nothing.
    error RewardsNoValue(bytes32 task);

    /// @notice Only a final round proves a reward.
    error RewardsNotFinal(bytes32 task, uint64 round, IRounds.Phase phase);

    /// @notice The round was not sealed with this manifest, these rewards and this total.
    error RewardsWrongRecord(bytes32 task, uint64 round, bytes32 record, bytes32 sealedRecord);

    /// @notice The organization's amount is not under the root of the rewards.
    error RewardsNotIncluded(bytes32 task, bytes32 organization, uint256 amount);

    /// @notice The task was given less than the round's rewards come to; anyone may add to it.
    error RewardsUnderfunded(bytes32 task, uint256 rewardsTotal, uint256 funded);

    /// @notice The organization was paid this much already.
    error RewardsNothingToClaim(
        bytes32 task, bytes32 organization, uint256 amount, uint256 claimedAmount
    );

    /// @notice The round's amounts come to more than its total, and others came first.
    error RewardsOverdrawn(bytes32 task, uint256 paid, uint256 payout, uint256 highestTotal);

    /// @notice The registry never had a key of this organization.
    error RewardsNoKey(bytes32 organization);

    /// @notice The organization's key did not take the money.
    error RewardsNotTaken(bytes32 organization, address recipient, uint256 payout);

    /// @param registry Registry of the organizations' keys, for good.
    /// @param rounds Rounds of the tasks, for good.
    constructor(IRegistry registry, IRounds rounds) {
        if (address(registry).code.length == 0) revert RewardsNoRegistry(address(registry));
        if (address(rounds).code.length == 0) revert RewardsNoRounds(address(rounds));
        REGISTRY = registry;
        ROUNDS = rounds;
    }

    /// @notice Adds to what a task can pay; for anyone, and never to be had back.
    function fund(bytes32 task) external payable {
        if (ROUNDS.coordinatorOf(task) == address(0)) revert RewardsUnknownTask(task);
        if (msg.value == 0) revert RewardsNoValue(task);
        Pot storage pot = _pots[task];
        pot.funded = (pot.funded + msg.value).toUint128();
        emit Funded(task, msg.sender, msg.value);
    }

    /// @notice Pays an organization what it has earned up to a final round and was not paid yet;
    /// for anyone. The money goes to its current key, or to the one that it left with.
    /// @param task Task that the reward is for.
    /// @param round Final round that proves it.
    /// @param manifestHash Hash of the manifest that the round was sealed with.
    /// @param rewardsRoot Root of the rewards that it was sealed with.
    /// @param rewardsTotal Their total that it was sealed with.
    /// @param organization Organization that earned it.
    /// @param amount All that it has earned in this task up to this round, in wei.
    /// @param proof Siblings from the organization's leaf to the root of the rewards.
    /// @return payout What it is paid now.
    function claim(
        bytes32 task,
        uint64 round,
        bytes32 manifestHash,
        bytes32 rewardsRoot,
        uint256 rewardsTotal,
        bytes32 organization,
        uint256 amount,
        bytes32[] calldata proof
    ) external returns (uint256 payout) {
        _requireRecord(task, round, manifestHash, rewardsRoot, rewardsTotal);
        _requireLeaf(rewardsRoot, task, organization, amount, proof);
        address recipient;
        (payout, recipient) = _book(task, rewardsTotal, organization, amount);
        emit RewardPaid(task, organization, recipient, round, amount, payout);
        _send(organization, recipient, payout);
    }

    /// @notice What a task was given so far.
    function fundedOf(bytes32 task) external view returns (uint256) {
        return _pots[task].funded;
    }

    /// @notice What a task has paid so far.
    function paidOf(bytes32 task) external view returns (uint256) {
        return _pots[task].paid;
    }

    /// @notice The highest total of the rewards that a claim proved so far.
    function highestTotalOf(bytes32 task) external view returns (uint256) {
        return _pots[task].highestTotal;
    }

    /// @notice What an organization was paid in a task so far.
    function claimedOf(bytes32 task, bytes32 organization) external view returns (uint256) {
        return _claimed[task][organization];
    }

    /// @notice Leaf of an organization under the root of the rewards.
    /// @param amount All that it has earned in the task so far, in wei.
    function leafOf(bytes32 task, bytes32 organization, uint256 amount)
        public
        pure
        returns (bytes32)
    {
        // Hashed twice, so that no inner node can pass for a leaf.
        return keccak256(bytes.concat(keccak256(abi.encode(task, organization, amount))));
    }

    /// @dev All that a claim changes, before any money moves.
    function _book(bytes32 task, uint256 rewardsTotal, bytes32 organization, uint256 amount)
        private
        returns (uint256 payout, address recipient)
    {
        uint256 claimedAmount = _claimed[task][organization];
        if (amount <= claimedAmount) {
            revert RewardsNothingToClaim(task, organization, amount, claimedAmount);
        }
        payout = amount - claimedAmount;
        recipient = REGISTRY.lastKeyOf(organization);
        if (recipient == address(0)) revert RewardsNoKey(organization);
        Pot storage pot = _pots[task];
        if (rewardsTotal > pot.funded) {
            revert RewardsUnderfunded(task, rewardsTotal, pot.funded);
        }
        // An organization may come with an earlier round after others came with later ones, and
        // then has to fit into what those were sealed with.
        uint256 highestTotal = pot.highestTotal;
        if (rewardsTotal > highestTotal) highestTotal = rewardsTotal;
        uint256 paid = pot.paid;
        if (payout > highestTotal - paid) {
            revert RewardsOverdrawn(task, paid, payout, highestTotal);
        }
        _claimed[task][organization] = amount;
        // No more than was funded, which fits.
        pot.paid = uint128(paid + payout);
        pot.highestTotal = uint128(highestTotal);
    }

    /// @dev A key may have code by now. It gets no hold on the caller by what it returns, and one
    /// that takes no money leaves the claim to be made again.
    function _send(bytes32 organization, address recipient, uint256 payout) private {
        if (!LowLevelCall.callNoReturn(recipient, payout, "")) {
            revert RewardsNotTaken(organization, recipient, payout);
        }
    }

    function _requireRecord(
        bytes32 task,
        uint64 round,
        bytes32 manifestHash,
        bytes32 rewardsRoot,
        uint256 rewardsTotal
    ) private view {
        IRounds.Phase phase = ROUNDS.phaseOf(task, round);
        if (phase != IRounds.Phase.Final) revert RewardsNotFinal(task, round, phase);
        bytes32 record = ROUNDS.recordDigest(manifestHash, rewardsRoot, rewardsTotal);
        bytes32 sealedRecord = ROUNDS.recordOf(task, round);
        if (record != sealedRecord) {
            revert RewardsWrongRecord(task, round, record, sealedRecord);
        }
    }

    function _requireLeaf(
        bytes32 root,
        bytes32 task,
        bytes32 organization,
        uint256 amount,
        bytes32[] calldata proof
    ) private pure {
        if (!MerkleProof.verifyCalldata(proof, root, leafOf(task, organization, amount))) {
            revert RewardsNotIncluded(task, organization, amount);
        }
    }
}
