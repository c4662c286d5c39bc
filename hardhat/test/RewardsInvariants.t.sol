// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRounds} from "../contracts/IRounds.sol";
import {VM} from "./Cheats.sol";
import {RewardsFixture} from "./RewardsFixture.sol";

/// @dev What may befall the rewards of a task, in any order, and a second bookkeeping of it. Some
/// coordinators seal what they should, others whatever they like. (In this file because the
/// runner only calls contracts of the files that hold tests.)
contract RewardsHandler is RewardsFixture {
    uint256 private constant _ORGS = 4;
    uint256 private constant _CORRUPTIONS = 7;

    struct Sealed {
        uint256[] amounts;
        uint256 total;
        IRounds.Phase phase;
    }

    Sealed[] private _sealed;
    mapping(uint256 number => uint256) private _generation;

    /// @dev What the claims have to add up to, and what they may not exceed.
    uint256 public funded;
    uint256 public otherFunded;
    uint256 public paid;
    uint256 public highest;
    mapping(uint256 number => uint256) public proven;

    /// @dev How often each outcome came about, so that it is known that all of them do.
    uint256 public payments;
    uint256 public refusals;
    uint256 public overdraws;
    uint256 public departures;

    /// @dev The first thing that went wrong; empty while nothing did.
    string public broken;

    constructor() {
        setUp();
    }

    /// @dev Once, whoever calls it.
    function setUp() public override {
        require(address(_rewards) == address(0));
        super.setUp();
    }

    /// @dev Seals a round. Honest amounts never fall, and add up to the total.
    function seal(uint256[4] calldata amounts, uint256 total, bool honest, uint8 phase) external {
        Sealed storage next = _sealed.push();
        uint256 sum = 0;
        for (uint256 i = 0; i < _ORGS; ++i) {
            uint256 amount = amounts[i] % 1000;
            if (honest && _sealed.length > 1) amount += _sealed[_sealed.length - 2].amounts[i];
            next.amounts.push(amount);
            sum += amount;
        }
        next.total = honest ? sum : total % (2 * sum + 1);
        next.phase = IRounds.Phase(phase % 2 == 0 ? 5 : phase / 2 % 6);
        _publish(_sealed.length - 1);
    }

    /// @dev Moves a round to another phase, forward or not: what was paid has to stay as it was.
    function move(uint256 place, uint8 phase) external {
        if (_sealed.length == 0) return;
        place %= _sealed.length;
        _sealed[place].phase = IRounds.Phase(phase % 2 == 0 ? 5 : phase / 2 % 6);
        _publish(place);
    }

    function fund(uint256 amount, bool other) external {
        amount = amount % 3000 + 1;
        _rewards.fund{value: amount}(other ? _OTHER_TASK : _TASK);
        if (other) otherFunded += amount;
        else funded += amount;
    }

    function claim(uint256 place, uint256 number) external {
        if (_sealed.length == 0) return;
        place %= _sealed.length;
        number %= _ORGS;
        Sealed storage s = _sealed[place];
        uint256 amount = s.amounts[number];
        uint256 top = s.total > highest ? s.total : highest;
        bool due = s.phase == IRounds.Phase.Final && s.total <= funded && amount > proven[number];
        uint256 payout = due ? amount - proven[number] : 0;
        bool within = paid + payout <= top;
        if (due && !within) ++overdraws;
        (bool done, uint256 gained) = _try(_claim(uint64(place), s.amounts, s.total, number));
        if (done != (due && within)) _breach("a claim paid or was refused against the rules");
        if (!done) {
            ++refusals;
            return;
        }
        if (gained != payout) _breach("another payout than was due");
        ++payments;
        paid += payout;
        highest = top;
        proven[number] = amount;
    }

    function claimCorruptly(uint256 place, uint256 number, uint256 kind) external {
        if (_sealed.length == 0) return;
        place %= _sealed.length;
        number %= _ORGS;
        Sealed storage s = _sealed[place];
        Claim memory c = _claim(uint64(place), s.amounts, s.total, number);
        kind %= _CORRUPTIONS;
        if (kind == 0) c.amount += 1;
        else if (kind == 1) c.rewardsTotal += 1;
        else if (kind == 2) c.round += uint64(_sealed.length);
        else if (kind == 3) c.task = _OTHER_TASK;
        else if (kind == 4) c.organization ^= bytes32(uint256(1));
        else if (kind == 5) c.manifestHash = 0;
        else c.proof[0] ^= bytes32(uint256(1));
        (bool done,) = _try(c);
        if (done) _breach("a corrupt claim paid");
    }

    /// @dev A member leaves, and one that left comes back with another key.
    function comeOrGo(uint256 number) external {
        number %= _ORGS;
        VM.roll(block.number + 1);
        if (_registry.isMember(_org(number))) {
            // Three signatures are always needed, and the first three organizations give them.
            if (number < _K) return;
            _executed(_removal(number, _K));
            ++departures;
        } else {
            _executed(_admission(number, ++_generation[number], _K));
        }
    }

    function rotate(uint256 number) external {
        number = number % _ORGS;
        if (number < _K || !_registry.isMember(_org(number))) return;
        VM.roll(block.number + 1);
        _rotated(number, _generation[number]++);
    }

    function claimed(uint256 number) public view returns (uint256) {
        return _rewards.claimedOf(_TASK, _org(number));
    }

    /// @dev What all keys that an organization ever had hold.
    function received(uint256 number) external view returns (uint256 sum) {
        for (uint256 i = 0; i <= _generation[number]; ++i) sum += _key(number, i).balance;
    }

    function balance() external view returns (uint256) {
        return address(_rewards).balance;
    }

    function books()
        external
        view
        returns (uint256 fundedThere, uint256 otherThere, uint256 paidThere, uint256 highestThere)
    {
        fundedThere = _rewards.fundedOf(_TASK);
        otherThere = _rewards.fundedOf(_OTHER_TASK);
        paidThere = _rewards.paidOf(_TASK) + _rewards.paidOf(_OTHER_TASK);
        highestThere = _rewards.highestTotalOf(_TASK);
    }

    function brought(Claim calldata c) external returns (uint256) {
        require(msg.sender == address(this));
        return _bring(c);
    }

    function _publish(uint256 place) private {
        Sealed storage s = _sealed[place];
        bytes32 record =
            keccak256(abi.encode(_MANIFEST, _claim(0, s.amounts, s.total, 0).rewardsRoot, s.total));
        _rounds.setRound(_TASK, uint64(place), s.phase, record);
    }

    /// @dev Brings a claim, and sees that no claimed amount falls on the way.
    function _try(Claim memory c) private returns (bool done, uint256 payout) {
        uint256[_ORGS] memory before;
        for (uint256 i = 0; i < _ORGS; ++i) before[i] = claimed(i);
        try this.brought(c) returns (uint256 paidOut) {
            (done, payout) = (true, paidOut);
        } catch {}
        for (uint256 i = 0; i < _ORGS; ++i) {
            if (claimed(i) < before[i]) _breach("a claimed amount fell");
            if (!done && claimed(i) != before[i]) _breach("a refused claim left a trace");
        }
    }

    function _breach(string memory what) private {
        if (bytes(broken).length == 0) broken = what;
    }
}

/// @dev What holds after any order of events.
/// hardhat-config: invariant.runs = 32
/// hardhat-config: invariant.depth = 64
contract RewardsInvariantsTest {
    RewardsHandler private _handler;

    function setUp() public {
        _handler = new RewardsHandler();
    }

    /// @dev Read by the runner: without it, it would call everything that `setUp` deployed.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function invariant_NothingPaidOrRefusedAgainstTheRules() public view {
        require(bytes(_handler.broken()).length == 0, _handler.broken());
    }

    function invariant_ClaimsAddUpToWhatWasPaidAndToNoMoreThanTheFunding() public view {
        uint256 sum = 0;
        for (uint256 i = 0; i < 4; ++i) sum += _handler.claimed(i);
        (uint256 funded,, uint256 paid, uint256 highest) = _handler.books();
        assert(sum == paid && paid == _handler.paid());
        assert(paid <= highest && highest <= funded && funded == _handler.funded());
    }

    function invariant_TheBalanceIsExactlyWhatRemains() public view {
        (uint256 funded, uint256 other, uint256 paid,) = _handler.books();
        assert(other == _handler.otherFunded());
        assert(_handler.balance() == funded + other - paid);
    }

    function invariant_NoOrganizationGetsAnythingButItsHighestProvenAmount() public view {
        for (uint256 i = 0; i < 4; ++i) {
            assert(_handler.claimed(i) == _handler.proven(i));
            assert(_handler.received(i) == _handler.proven(i));
        }
    }

    /// @dev The same by a fixed choice of events, to see that everything does come about.
    function test_TheEventsOfTheInvariantsComeToPaymentsRefusalsAndOverdraws() public {
        for (uint256 i = 0; i < 600; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            uint256 act = seed % 16;
            seed >>= 8;
            if (act < 2) {
                uint256[4] memory amounts =
                    [seed, seed >> 16, seed >> 32, seed >> 48];
                _handler.seal(amounts, seed >> 64, seed >> 128 & 3 != 0, uint8(seed >> 130));
            } else if (act == 2) {
                _handler.move(seed, uint8(seed >> 128));
            } else if (act < 5) {
                _handler.fund(seed, seed >> 128 & 1 != 0);
            } else if (act == 5) {
                _handler.comeOrGo(seed);
            } else if (act == 6) {
                _handler.rotate(seed);
            } else if (act < 9) {
                _handler.claimCorruptly(seed, seed >> 64, seed >> 128);
            } else {
                _handler.claim(seed, seed >> 128);
            }
        }
        assert(_handler.payments() > 10 && _handler.refusals() > 10);
        assert(_handler.overdraws() > 0 && _handler.departures() > 0);
        invariant_NothingPaidOrRefusedAgainstTheRules();
        invariant_ClaimsAddUpToWhatWasPaidAndToNoMoreThanTheFunding();
        invariant_TheBalanceIsExactlyWhatRemains();
        invariant_NoOrganizationGetsAnythingButItsHighestProvenAmount();
    }
}
