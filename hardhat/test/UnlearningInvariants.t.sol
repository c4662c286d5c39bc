// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "../contracts/Attestors.sol";
import {Registry} from "../contracts/Registry.sol";
import {Unlearning} from "../contracts/Unlearning.sol";
import {VM} from "./Cheats.sol";
import {UnlearningFixture} from "./UnlearningFixture.sol";

/// @dev What may befall requests to forget, in any order, by those who may and those who may not,
/// and a second bookkeeping of it. (In this file because the runner only calls contracts of the
/// files that hold tests.)
contract UnlearningHandler is UnlearningFixture {
    uint256 private constant _ORGS = 4;

    Unlearning.Request[] private _asked;
    mapping(bytes32 id => Unlearning.State) public expected;
    mapping(bytes32 id => bytes32) private _frozen;
    mapping(uint256 number => uint256) private _generation;

    /// @dev How often each state was reached, an act was refused and an outcome came late.
    uint256[5] public reached;
    uint256 public refusals;
    uint256 public late;

    /// @dev The first thing that went wrong; empty while nothing did.
    string public broken;

    constructor() {
        setUp();
    }

    /// @dev Once, whoever calls it.
    function setUp() public override {
        require(address(_unlearning) == address(0));
        super.setUp();
    }

    function ask(uint256 number, uint256 salt, uint256 wait, bool whole, uint256 signer) external {
        Unlearning.Request memory wanted = _wanted(number % _ORGS);
        wanted.subject = bytes32(salt % 8);
        wanted.deadline = uint64(block.timestamp + wait % 50);
        if (whole) wanted.scope = Unlearning.Scope.Organization;
        wanted.id = _id(wanted);
        signer = _mostly(number % _ORGS, signer);
        bool due = wanted.subject != 0 && wanted.deadline > block.timestamp
            && signer == number % _ORGS && expected[wanted.id] == Unlearning.State.None;
        bytes memory signature = _signed(_current(signer), _digest(wanted));
        if (!_did(abi.encodeCall(_unlearning.request, (wanted, signature)), due)) return;
        _asked.push(wanted);
        _reach(wanted.id, Unlearning.State.Open);
    }

    /// @dev A completion in the names that `set` holds, each signed for by its own key or, for
    /// those that `forged` holds, by another.
    function complete(uint256 place, uint8 set, uint8 forged, uint64 first, uint8 guarantee)
        external
    {
        if (_asked.length == 0) return;
        bytes32 id = _pick(place).id;
        Unlearning.Completion memory completion = _completion();
        completion.guarantee = Unlearning.Guarantee(guarantee % 4);
        bool nothing = completion.guarantee == Unlearning.Guarantee.NothingToForget;
        completion.firstAffectedRound = nothing == (first % 4 != 0) ? 0 : 3;
        if (forged & 1 != 0) forged = 0;
        if (set & 0x80 != 0) set = 3;
        Attestors.Approval[] memory approvals = new Attestors.Approval[](_ORGS);
        uint256 length = 0;
        bool due = (completion.firstAffectedRound == 0) == nothing;
        for (uint256 i = 0; i < _ORGS; ++i) {
            if (set >> i & 1 == 0) continue;
            bool own = forged >> (i + 1) & 1 == 0;
            due = due && own && _registry.isAttestor(_org(i));
            bytes32 digest = _digest(id, _org(i), completion);
            uint256 secret = own ? _current(i) : _current((i + 1) % _ORGS);
            approvals[length++] = Attestors.Approval(_org(i), _signed(secret, digest));
        }
        assembly ("memory-safe") {
            mstore(approvals, length)
        }
        due = due && length >= _NEEDED && expected[id] == Unlearning.State.Open;
        if (_did(abi.encodeCall(_unlearning.complete, (id, completion, approvals)), due)) {
            _reach(id, Unlearning.State.Completed);
        }
    }

    function reject(uint256 place, uint8 who, uint16 reason) external {
        if (_asked.length == 0) return;
        bytes32 id = _pick(place).id;
        address caller = who % 4 == 0 ? _key(who / 4 % _ORGS) : _COORDINATOR;
        bool due =
            caller == _COORDINATOR && reason != 0 && expected[id] == Unlearning.State.Open;
        VM.prank(caller);
        if (_did(abi.encodeCall(_unlearning.reject, (id, reason, bytes32(0))), due)) {
            _reach(id, Unlearning.State.Rejected);
        }
    }

    function cancel(uint256 place, uint256 signer) external {
        if (_asked.length == 0) return;
        Unlearning.Request memory wanted = _pick(place);
        uint256 requester = uint8(bytes1(wanted.organization)) - 0x61;
        signer = _mostly(requester, signer);
        bool due = signer == requester && expected[wanted.id] == Unlearning.State.Open;
        bytes memory signature = _signed(_current(signer), _cancelDigest(wanted.id));
        if (_did(abi.encodeCall(_unlearning.cancel, (wanted.id, signature)), due)) {
            _reach(wanted.id, Unlearning.State.Cancelled);
        }
    }

    function pass(uint256 time) external {
        VM.warp(block.timestamp + time % 30);
    }

    /// @dev Organization 3 leaves, or comes back with another key.
    function comeOrGo() external {
        if (block.timestamp > _DEADLINE) return;
        VM.roll(block.number + 1);
        if (_registry.isMember(_org(3))) _executed(_removal(3, _K));
        else _executed(_admission(3, ++_generation[3], _K));
    }

    function rotate() external {
        if (block.timestamp > _DEADLINE || !_registry.isMember(_org(3))) return;
        VM.roll(block.number + 1);
        _rotated(3, _generation[3]++);
    }

    /// @dev Organization 2 becomes an attestor or ceases to be one.
    function appoint() external {
        if (block.timestamp > _DEADLINE) return;
        bool is_ = _registry.isAttestor(_org(2));
        _executed(_about(is_ ? Registry.Kind.RemoveAttestor : Registry.Kind.AddAttestor, 2));
    }

    function count() external view returns (uint256) {
        return _asked.length;
    }

    /// @dev Whether a request's state, its lateness and what it says are as they should be.
    function isAsExpected(uint256 place) external view returns (bool) {
        Unlearning.Request memory wanted = _asked[place];
        Unlearning.Record memory record = _unlearning.getRequest(wanted.id);
        bool overdue = record.state == Unlearning.State.Open && block.timestamp > wanted.deadline;
        return record.state == expected[wanted.id] && _unlearning.isOverdue(wanted.id) == overdue
            && _unlearning.stateOf(wanted.id) == record.state
            && keccak256(abi.encode(record)) == _frozen[wanted.id]
            && record.organization == wanted.organization && record.subject == wanted.subject
            && record.task == wanted.task && record.deadline == wanted.deadline
            && (record.closedAt == 0) == (record.state == Unlearning.State.Open);
    }

    /// @dev Some request, and mostly one of the last, which are mostly open.
    function _pick(uint256 seed) private view returns (Unlearning.Request memory) {
        uint256 length = _asked.length;
        return _asked[seed % 4 == 0 || length < 3 ? seed % length : length - 1 - seed % 3];
    }

    function _mostly(uint256 usual, uint256 seed) private pure returns (uint256) {
        return seed % 4 == 0 ? seed / 4 % _ORGS : usual;
    }

    function _current(uint256 number) private view returns (uint256) {
        return _secret(number, _generation[number]);
    }

    /// @dev Makes a call, which has to be refused exactly if it is not due.
    function _did(bytes memory call, bool due) private returns (bool done) {
        (done,) = address(_unlearning).call(call);
        if (!done) ++refusals;
        if (done != due && bytes(broken).length == 0) {
            broken = done ? "something was done that should not" : "something was refused";
        }
    }

    function _reach(bytes32 id, Unlearning.State state) private {
        if (state <= expected[id] && bytes(broken).length == 0) broken = "a state moved back";
        expected[id] = state;
        ++reached[uint8(state)];
        Unlearning.Record memory record = _unlearning.getRequest(id);
        if (record.closedAt > record.deadline) ++late;
        _frozen[id] = keccak256(abi.encode(record));
    }
}

/// @dev What holds after any order of events.
/// hardhat-config: invariant.runs = 32
/// hardhat-config: invariant.depth = 64
contract UnlearningInvariantsTest {
    UnlearningHandler private _handler;

    function setUp() public {
        _handler = new UnlearningHandler();
    }

    /// @dev Read by the runner: without it, it would call everything that `setUp` deployed.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @dev Done is what the rules allow, all of it and nothing else: completion needs distinct
    /// attestors, only the requester cancels, only the coordinator rejects, no state moves back.
    function invariant_NothingDoneOrRefusedAgainstTheRules() public view {
        require(bytes(_handler.broken()).length == 0, _handler.broken());
    }

    /// @dev Nothing but its own acts changes a request, and time alone makes it overdue.
    function invariant_EveryRequestIsAsItsLastActLeftIt() public view {
        for (uint256 i = 0; i < _handler.count(); ++i) assert(_handler.isAsExpected(i));
    }

    /// @dev The same by a fixed choice of events, to see that everything does come about.
    function test_TheEventsOfTheInvariantsReachEveryState() public {
        for (uint256 i = 0; i < 500; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            uint256 act = seed % 16;
            seed >>= 8;
            if (act < 5) {
                _handler.ask(seed, seed >> 32, seed >> 64, seed >> 96 & 1 != 0, seed >> 128);
            } else if (act < 9) {
                uint8 set = uint8(seed >> 32);
                uint8 forged = uint8(seed >> 40);
                _handler.complete(seed, set, forged, uint64(seed >> 64), uint8(seed >> 128));
            } else if (act < 11) {
                _handler.reject(seed, uint8(seed >> 32), uint16(seed >> 40));
            } else if (act < 13) {
                _handler.cancel(seed, seed >> 32);
            } else if (act == 13) {
                _handler.pass(seed);
            } else if (act == 14) {
                _handler.comeOrGo();
            } else if (seed & 1 != 0) {
                _handler.rotate();
            } else {
                _handler.appoint();
            }
            invariant_NothingDoneOrRefusedAgainstTheRules();
        }
        invariant_EveryRequestIsAsItsLastActLeftIt();
        for (uint256 i = 1; i < 5; ++i) assert(_handler.reached(i) > 5);
        assert(_handler.refusals() > 50 && _handler.late() > 0);
    }
}
