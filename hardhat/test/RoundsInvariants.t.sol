// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "../contracts/Attestors.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Omissions} from "../contracts/Omissions.sol";
import {Rounds} from "../contracts/Rounds.sol";
import {RoundsState} from "../contracts/RoundsState.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev Does to a task, at random, whatever anyone can do to it, and remembers what must not
/// change. Most of it is refused, as it should be. The runner calls every function that changes
/// state, and finds the contract only if it lies in the file of the tests.
contract RoundsHandler is RoundsFixture {
    using MerkleTree for bytes32[];

    uint256 public constant ORGANIZATIONS = 3;

    /// @dev Moves that no phase may make.
    uint256 public wrongMoves;
    mapping(uint64 round => IRounds.Phase) public lastPhase;
    /// @dev What a round was sealed with.
    mapping(uint64 round => bytes32) public sealedAs;
    /// @dev What an organization first committed to.
    mapping(uint64 round => mapping(uint256 number => bytes32)) public firstSubmission;
    /// @dev How often each of these happened, to see that the test tests something.
    mapping(bytes32 what => uint256) public times;

    mapping(uint64 round => uint256) private _left;
    uint256 private _now;

    constructor() {
        setUp();
        _now = block.timestamp;
        for (uint256 i = 0; i < ORGANIZATIONS; ++i) VM.deal(actor(i), 1000 ether);
    }

    modifier recorded() {
        _now += 5;
        VM.warp(_now);
        _;
        _notePhases();
    }

    function setUp() public override {
        require(address(_rounds) == address(0), "set up already");
        super.setUp();
    }

    function rounds() external view returns (Rounds) {
        return _rounds;
    }

    function task() external view returns (bytes32) {
        return _task;
    }

    function actor(uint256 number) public pure returns (address) {
        return address(uint160(0xAC7000 + number));
    }

    function lastRound() public view returns (uint64) {
        return _rounds.getTask(_task).lastRound;
    }

    /// @dev The update of an organization for a round that was opened.
    function digestFor(uint256 number, uint64 round) public view returns (bytes32) {
        return _digestOf(_update(number, round));
    }

    /// @dev What must not change once a round is sealed.
    function result(uint64 round) public view returns (bytes32) {
        RoundsState.Round memory stored = _rounds.getRound(_task, round);
        stored.phase = IRounds.Phase.Sealed;
        (stored.scores, stored.openChallenges) = (0, 0);
        return keccak256(abi.encode(stored));
    }

    function open() external recorded {
        _open();
    }

    /// @dev Seals one of the last rounds without the organizations in the set `left`.
    function seal(uint256 seed, uint8 left) external recorded {
        _seal(_any(seed, 2), left % 2 == 0 ? left : 0, seed % 9 + 1);
    }

    /// @dev In between, the organizations in the set `submitted` submit.
    function openAndSeal(uint8 left, uint8 submitted) external recorded {
        _open();
        _notePhases();
        uint64 round = lastRound();
        for (uint256 i = 0; i < ORGANIZATIONS; ++i) {
            if (submitted >> i & 1 != 0) _submit(i, _update(i, round));
        }
        _seal(round, left % 3 == 0 ? left : 0, 1);
    }

    function voidLast(uint8 chance) external recorded {
        uint64 round = lastRound();
        if (chance % 8 != 0) return;
        VM.prank(_lead);
        try _rounds.voidRound(_task, round) {} catch {}
    }

    function submit(uint256 seed, uint8 number, bool other) external recorded {
        Submissions.ModelUpdate memory update = _update(number % ORGANIZATIONS, _any(seed, 2));
        if (other) update.commitment = "other";
        _submit(number % ORGANIZATIONS, update);
    }

    /// @dev By receipt, or for all that was submitted on the chain.
    function challenge(uint256 seed, uint8 number, uint8 by, bool receipt) external recorded {
        uint64 round = _any(seed, 3);
        for (uint256 i = 0; i < ORGANIZATIONS; ++i) {
            if (receipt && i != number % ORGANIZATIONS) continue;
            Submissions.ModelUpdate memory update = _update(i, round);
            bytes memory signature = receipt ? _receipt(update) : bytes("");
            VM.prank(actor(by % ORGANIZATIONS));
            try _rounds.challengeOmission{value: _BOND}(update, signature) {
                ++times["challenged"];
            } catch {}
        }
    }

    function answer(uint256 seed) external recorded {
        uint64 round = _any(seed, 3);
        bytes32[] memory hashes = _leaves(round);
        uint32 index = 0;
        for (uint256 i = 0; i < ORGANIZATIONS; ++i) {
            if (_left[round] >> i & 1 != 0) continue;
            bytes32 digest = digestFor(i, round);
            bytes32[] memory proof = hashes.proof(index);
            try _rounds.answerChallenge(_task, round, digest, index, 0, proof) {
                ++times["answered"];
            } catch {}
            ++index;
        }
    }

    function declareUnavailable(uint256 seed) external recorded {
        uint64 round = _any(seed, 3);
        for (uint256 i = 0; i < ORGANIZATIONS; ++i) {
            VM.prank(_lead);
            try _rounds.answerUnavailable(_task, round, _org(i)) {
                ++times["unavailable"];
            } catch {}
        }
    }

    function attest(uint256 seed) external recorded {
        uint64 round = _any(seed, 3);
        Attestors.Approval[] memory approvals = _attestations(round, 2);
        try _rounds.attest(_task, round, _SCORES, approvals) {} catch {}
    }

    /// @dev Tries the last few rounds, the first of them first.
    function finalize(bool attested) external recorded {
        for (uint256 i = 4; i > 0; --i) {
            uint64 round = _any(i - 1, 4);
            Attestors.Approval[] memory approvals = _attestations(round, 2);
            if (attested) try _rounds.attest(_task, round, _SCORES, approvals) {} catch {}
            try _rounds.finalize(_task, round) {} catch {}
        }
    }

    function dispute(uint256 seed) external recorded {
        for (uint256 i = 0; i < 4; ++i) {
            try _rounds.dispute(_task, _any(seed % 4 + i, 4)) {} catch {}
        }
    }

    function refund(uint256 seed) external recorded {
        uint64 round = _any(seed, 4);
        for (uint256 i = 0; i < ORGANIZATIONS; ++i) {
            try _rounds.refundBond(_task, round, digestFor(i, round)) {
                ++times["refunded"];
            } catch {}
        }
    }

    function withdraw(uint8 by) external recorded {
        VM.prank(by % 4 == 3 ? _lead : actor(by % 4));
        try _rounds.withdraw() {
            ++times["withdrawn"];
        } catch {}
    }

    function pass(uint8 time) external recorded {
        _now += time % 100;
    }

    function _open() private {
        bytes32 head = _rounds.getTask(_task).headAdapter;
        uint64 round = lastRound() + 1;
        VM.prank(_lead);
        try _rounds.openRound(_task, round, head) {} catch {}
    }

    function _submit(uint256 number, Submissions.ModelUpdate memory update) private {
        bytes32 digest = _digestOf(update);
        VM.prank(_key(number));
        try _rounds.submitDirect(update) {
            ++times["submitted"];
            if (firstSubmission[update.round][number] == 0) {
                firstSubmission[update.round][number] = digest;
            }
        } catch {}
    }

    function _seal(uint64 round, uint8 left, uint256 total) private {
        if (_phase(round) == IRounds.Phase.Open) _left[round] = left;
        bytes32[] memory hashes = _leaves(round);
        bytes32 root = hashes.root();
        uint32 count = uint32(hashes.length);
        bytes32 adapter = _adapter(round);
        VM.prank(_lead);
        try _rounds.seal(_task, round, root, count, adapter, _MANIFEST, _REWARDS, total) {
            sealedAs[round] = result(round);
        } catch {}
    }

    function _notePhases() private {
        uint64 last = lastRound();
        for (uint64 round = 1; round <= last; ++round) {
            IRounds.Phase phase = _phase(round);
            if (phase == lastPhase[round]) continue;
            if (!_mayMove(lastPhase[round], phase)) ++wrongMoves;
            lastPhase[round] = phase;
        }
    }

    /// @dev One of the last few rounds, or one yet to come where none was opened.
    function _any(uint256 seed, uint64 few) private view returns (uint64) {
        uint64 last = lastRound();
        uint64 back = uint64(seed % few);
        return last > back ? last - back : last + 1;
    }

    function _leaves(uint64 round) private view returns (bytes32[] memory hashes) {
        for (uint256 i = 0; i < ORGANIZATIONS; ++i) {
            if (_left[round] >> i & 1 != 0) continue;
            hashes = hashes.append(_leaf(digestFor(i, round), uint32(hashes.length), 0));
        }
    }

    function _mayMove(IRounds.Phase from, IRounds.Phase to) private pure returns (bool) {
        if (from == IRounds.Phase.None) return to == IRounds.Phase.Open;
        if (from == IRounds.Phase.Open) {
            return to == IRounds.Phase.Void || to == IRounds.Phase.Sealed;
        }
        return from == IRounds.Phase.Sealed
            && (to == IRounds.Phase.Disputed || to == IRounds.Phase.Final);
    }
}

/// @dev What holds after any sequence of calls, whoever makes them.
contract RoundsInvariantsTest {
    RoundsHandler private _handler;
    Rounds private _rounds;
    bytes32 private _task;

    uint256 private constant _BOND = 1 ether;

    function setUp() public {
        _handler = new RoundsHandler();
        (_rounds, _task) = (_handler.rounds(), _handler.task());
    }

    /// @dev Read by the test runner: it calls nothing but the handler.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function invariant_PhasesOnlyMoveForward() public view {
        assert(_handler.wrongMoves() == 0);
    }

    function invariant_WhatARoundWasSealedWithNeverChanges() public view {
        for (uint64 round = 1; round <= _handler.lastRound(); ++round) {
            bytes32 was = _handler.sealedAs(round);
            bool sealed_ = _rounds.phaseOf(_task, round) >= IRounds.Phase.Sealed;
            assert((was != 0) == sealed_);
            assert(!sealed_ || _handler.result(round) == was);
        }
    }

    function invariant_AnOrganizationCommitsOnceToARound() public view {
        for (uint64 round = 1; round <= _handler.lastRound(); ++round) {
            for (uint256 i = 0; i < _handler.ORGANIZATIONS(); ++i) {
                bytes32 organization = bytes32(bytes1(uint8(0x61 + i)));
                bytes32 kept = _rounds.submissionOf(_task, round, organization);
                assert(kept == _handler.firstSubmission(round, i));
            }
        }
    }

    function invariant_FinalRoundsFormOneChainFromGenesis() public view {
        uint256 chained = 0;
        uint64 round = _rounds.getTask(_task).lastFinalRound;
        while (round != 0) {
            RoundsState.Round memory stored = _rounds.getRound(_task, round);
            assert(stored.phase == IRounds.Phase.Final && stored.parentRound < round);
            assert(stored.parentAdapter == _adapterOf(stored.parentRound));
            round = stored.parentRound;
            ++chained;
        }
        assert(chained == _count(IRounds.Phase.Final));
    }

    /// @dev Or the task could never finish anything again.
    function invariant_TheHeadStandsOnTheLastFinalRound() public view {
        RoundsState.Task memory task = _rounds.getTask(_task);
        uint64 round = task.headRound;
        while (round != task.lastFinalRound) {
            RoundsState.Round memory stored = _rounds.getRound(_task, round);
            assert(stored.phase == IRounds.Phase.Sealed);
            assert(round > task.branchStart && round > task.lastFinalRound);
            round = stored.parentRound;
        }
    }

    function invariant_TheBalanceIsTheOpenBondsAndTheCredits() public view {
        uint256 owed = 0;
        for (uint64 round = 1; round <= _handler.lastRound(); ++round) {
            owed += _BOND * _openChallenges(round);
        }
        owed += _rounds.creditOf(_rounds.coordinatorOf(_task));
        for (uint256 i = 0; i < _handler.ORGANIZATIONS(); ++i) {
            owed += _rounds.creditOf(_handler.actor(i));
        }
        assert(address(_rounds).balance == owed);
    }

    function invariant_AnOpenChallengeBarsFinality() public view {
        for (uint64 round = 1; round <= _handler.lastRound(); ++round) {
            RoundsState.Round memory stored = _rounds.getRound(_task, round);
            uint256 open = _openChallenges(round);
            // Once disputed, a round keeps the number of challenges that nothing answered.
            if (stored.phase == IRounds.Phase.Disputed) {
                assert(open <= stored.openChallenges && stored.openChallenges != 0);
            } else {
                assert(open == stored.openChallenges);
            }
            assert(stored.phase != IRounds.Phase.Final || open == 0);
            assert(stored.phase != IRounds.Phase.Final || stored.scores != 0);
        }
    }

    /// @dev What the invariants are tested against, or they would hold for want of anything that
    /// could break them.
    function test_TheHandlerReachesAllThatCanHappen() public {
        _handler.openAndSeal(0, 7);
        _handler.challenge(0, 0, 0, false);
        _handler.answer(0);
        _handler.withdraw(3);
        _passed(120);
        _handler.finalize(true);
        assert(_rounds.phaseOf(_task, 1) == IRounds.Phase.Final);
        _handler.openAndSeal(3, 7);
        _handler.challenge(0, 0, 0, false);
        _handler.declareUnavailable(0);
        _handler.challenge(0, 0, 1, true);
        _passed(160);
        _handler.dispute(0);
        _handler.refund(0);
        assert(_rounds.phaseOf(_task, 2) == IRounds.Phase.Disputed);
        _handler.open();
        _handler.submit(0, 0, true);
        _handler.voidLast(0);
        assert(_rounds.phaseOf(_task, 3) == IRounds.Phase.Void);
        _handler.openAndSeal(0, 0);
        _passed(120);
        _handler.finalize(true);
        assert(_rounds.getTask(_task).lastFinalRound == 4);
        assert(_handler.times("submitted") == 7 && _handler.times("challenged") == 7);
        assert(_handler.times("answered") == 3 && _handler.times("unavailable") == 3);
        assert(_handler.times("refunded") == 1 && _handler.times("withdrawn") == 1);
    }

    function _passed(uint256 time) private {
        for (; time >= 99; time -= 99) _handler.pass(99);
        _handler.pass(uint8(time));
    }

    function _openChallenges(uint64 round) private view returns (uint256 open) {
        for (uint256 i = 0; i < _handler.ORGANIZATIONS(); ++i) {
            Omissions.Challenge memory challenge =
                _rounds.challengeOf(_task, round, _handler.digestFor(i, round));
            if (challenge.state == Omissions.ChallengeState.Open) ++open;
        }
    }

    function _count(IRounds.Phase phase) private view returns (uint256 count) {
        for (uint64 round = 1; round <= _handler.lastRound(); ++round) {
            if (_rounds.phaseOf(_task, round) == phase) ++count;
        }
    }

    function _adapterOf(uint64 round) private view returns (bytes32) {
        return round == 0
            ? _rounds.getTask(_task).genesisAdapter
            : _rounds.getRound(_task, round).adapterHash;
    }
}
