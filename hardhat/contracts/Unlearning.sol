// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {Attestors} from "./Attestors.sol";
import {IRegistry} from "./IRegistry.sol";
import {IRounds} from "./IRounds.sol";

/// @title Requests to forget
/// @notice An organization asks that a task's model forget some of its data or all of it, also
/// after it left. What became of that is public: attestors say that it was done and how far that
/// can be relied on, the coordinator says that it will not be done and why, the organization takes
/// it back, or time passes. Nobody owns this contract and nothing in it can be paused.
/// @dev What is to be forgotten is only ever named by a salted commitment. A request can be late by
/// its own choice: whoever reads `isOverdue` may want to look at how long it gave.
contract Unlearning is Attestors {
    /// @notice A state only ever moves forward: None, Open, then one of the others for good.
    enum State {
        None,
        Open,
        Completed,
        Rejected,
        Cancelled
    }

    /// @notice Whether some of an organization's records are to be forgotten, or all of them.
    enum Scope {
        Records,
        Organization
    }

    /// @notice What attestors vouch for. ExactIsolated: the data never reached the model that is
    /// used now, only one that was set apart. ExactReplay: the model was trained again without the
    /// data. Empirical: measured, not proven. NothingToForget: the data was never trained on.
    enum Guarantee {
        ExactIsolated,
        ExactReplay,
        Empirical,
        NothingToForget
    }

    /// @notice What an organization signs.
    /// @param id Id of the request, which is `idOf` all the rest.
    /// @param task Task whose model is to forget.
    /// @param organization Organization whose data it is.
    /// @param subject Salted commitment to what is to be forgotten; a new salt makes a new request.
    /// @param scope Whether records or all of the organization's data.
    /// @param deadline Time, in seconds since 1970, after which the request is overdue, and until
    /// which it may be brought.
    struct Request {
        bytes32 id;
        bytes32 task;
        bytes32 organization;
        bytes32 subject;
        Scope scope;
        uint64 deadline;
    }

    /// @notice What attestors sign, with their names and the request's id.
    /// @param evidenceRoot Root of the evidence that they checked.
    /// @param adapter Adapter that has forgotten.
    /// @param firstAffectedRound First round that the data was part of; zero exactly where nothing
    /// was to forget.
    /// @param guarantee What they vouch for.
    struct Completion {
        bytes32 evidenceRoot;
        bytes32 adapter;
        uint64 firstAffectedRound;
        Guarantee guarantee;
    }

    /// @notice A request as readers see it; what does not apply is zero.
    /// @param state What became of it.
    /// @param task Task whose model is to forget.
    /// @param organization Organization that asked.
    /// @param subject Salted commitment to what is to be forgotten.
    /// @param scope Whether records or all of the organization's data.
    /// @param deadline Time after which the request is overdue.
    /// @param requestedAt Time at which it was brought.
    /// @param closedAt Time at which it was completed, rejected or cancelled; late if past the
    /// deadline.
    /// @param completion What the attestors signed, if they did.
    /// @param reason Why the coordinator rejected it, if it did.
    /// @param details Hash of what the coordinator has to say about that.
    struct Record {
        State state;
        bytes32 task;
        bytes32 organization;
        bytes32 subject;
        Scope scope;
        uint64 deadline;
        uint64 requestedAt;
        uint64 closedAt;
        Completion completion;
        uint16 reason;
        bytes32 details;
    }

    /// @dev One word for all that is short; of the last three, only those of the outcome are set.
    struct StoredRequest {
        State state;
        Scope scope;
        Guarantee guarantee;
        uint16 reason;
        uint40 requestedAt;
        uint40 closedAt;
        uint64 deadline;
        uint64 firstAffectedRound;
        bytes32 task;
        bytes32 organization;
        bytes32 subject;
        bytes32 evidenceRoot;
        bytes32 adapter;
        bytes32 details;
    }

    bytes32 private constant _REQUEST = keccak256(
        "Request(bytes32 id,bytes32 task,bytes32 organization,bytes32 subject,uint8 scope,"
        "uint64 deadline)"
    );
    bytes32 private constant _COMPLETION = keccak256(
        "Completion(bytes32 id,bytes32 organization,bytes32 evidenceRoot,bytes32 adapter,"
        "uint64 firstAffectedRound,uint8 guarantee)"
    );
    bytes32 private constant _CANCELLATION = keccak256("Cancellation(bytes32 id)");

    /// @notice Where the tasks and their coordinators are looked up.
    IRounds public immutable ROUNDS;

    mapping(bytes32 id => StoredRequest) private _requests;

    /// @notice An organization asked to forget.
    event UnlearningRequested(
        bytes32 indexed id,
        bytes32 indexed task,
        bytes32 indexed organization,
        bytes32 subject,
        Scope scope,
        uint64 deadline
    );

    /// @notice Attestors said that it was done.
    /// @param late Whether it was past its deadline then.
    /// @param organizations The attestors that signed.
    event UnlearningCompleted(
        bytes32 indexed id,
        bytes32 evidenceRoot,
        bytes32 adapter,
        uint64 firstAffectedRound,
        Guarantee guarantee,
        bool late,
        bytes32[] organizations
    );

    /// @notice The task's coordinator said that it will not be done.
    event UnlearningRejected(bytes32 indexed id, uint16 reason, bytes32 details);

    /// @notice The organization took its request back.
    event UnlearningCancelled(bytes32 indexed id);

    /// @notice There is no contract at the rounds' address.
    error UnlearningNoRounds(address rounds);

    /// @notice The id of a request follows from what it says.
    error UnlearningWrongId(bytes32 id, bytes32 expected);

    /// @notice A hash or a reason that must be given was zero.
    error UnlearningZeroValue(string field);

    /// @notice Nobody opened such a task.
    error UnlearningUnknownTask(bytes32 task);

    /// @notice The deadline of a request lies ahead.
    error UnlearningExpired(uint64 deadline, uint256 timestamp);

    /// @notice The request was brought before.
    error UnlearningKnownRequest(bytes32 id, State state);

    /// @notice Nobody brought the request, or something became of it already.
    error UnlearningNotOpen(bytes32 id, State state);

    /// @notice The registry never had a key of this organization.
    error UnlearningNoKey(bytes32 organization);

    /// @notice The organization's key did not sign this; a malformed signature has signer zero.
    error UnlearningWrongSigner(bytes32 organization, address signer, address key);

    /// @notice Some round was the first affected one exactly if there was something to forget.
    error UnlearningWrongFirstRound(uint64 firstAffectedRound, Guarantee guarantee);

    /// @notice The task never had such a round.
    error UnlearningUnknownRound(bytes32 task, uint64 round);

    /// @notice Only the coordinator of the request's task may reject it.
    error UnlearningNotCoordinator(bytes32 task, address caller, address coordinator);

    /// @param registry Registry of the organizations, for good.
    /// @param rounds Rounds of the tasks, for good.
    constructor(IRegistry registry, IRounds rounds)
        EIP712("Foedus Unlearning", "1")
        Attestors(registry)
    {
        if (address(rounds).code.length == 0) revert UnlearningNoRounds(address(rounds));
        ROUNDS = rounds;
    }

    /// @notice Brings an organization's request; for anyone.
    /// @param wanted What the organization signed.
    /// @param signature Signature over the `Request`, by EIP-712, of its current key or of the one
    /// that it left with.
    function request(Request calldata wanted, bytes calldata signature) external {
        bytes32 id = wanted.id;
        bytes32 expected = idOf(wanted);
        if (id != expected) revert UnlearningWrongId(id, expected);
        if (wanted.subject == 0) revert UnlearningZeroValue("subject");
        if (wanted.deadline <= block.timestamp) {
            revert UnlearningExpired(wanted.deadline, block.timestamp);
        }
        if (ROUNDS.coordinatorOf(wanted.task) == address(0)) {
            revert UnlearningUnknownTask(wanted.task);
        }
        StoredRequest storage stored = _requests[id];
        if (stored.state != State.None) revert UnlearningKnownRequest(id, stored.state);
        _requireSigned(wanted.organization, requestDigest(wanted), signature);
        stored.state = State.Open;
        stored.scope = wanted.scope;
        stored.requestedAt = uint40(block.timestamp);
        stored.deadline = wanted.deadline;
        stored.task = wanted.task;
        stored.organization = wanted.organization;
        stored.subject = wanted.subject;
        emit UnlearningRequested(
            id, wanted.task, wanted.organization, wanted.subject, wanted.scope, wanted.deadline
        );
    }

    /// @notice Records that a request was fulfilled, late or not, as enough attestors signed; for
    /// anyone.
    /// @param id Id of the request.
    /// @param completion What they signed.
    /// @param approvals Their signatures over the `Completion`, each with its own name in it,
    /// strictly ascending by organization; all of them must be valid.
    function complete(bytes32 id, Completion calldata completion, Approval[] calldata approvals)
        external
    {
        StoredRequest storage stored = _openRequest(id);
        _requireSound(stored.task, completion);
        bytes32[] memory organizations = new bytes32[](approvals.length);
        bytes32[] memory digests = new bytes32[](approvals.length);
        for (uint256 i = 0; i < approvals.length; ++i) {
            organizations[i] = approvals[i].organization;
            digests[i] = completionDigest(id, organizations[i], completion);
        }
        _requireAttested(digests, approvals);
        stored.state = State.Completed;
        stored.guarantee = completion.guarantee;
        stored.closedAt = uint40(block.timestamp);
        stored.firstAffectedRound = completion.firstAffectedRound;
        stored.evidenceRoot = completion.evidenceRoot;
        stored.adapter = completion.adapter;
        emit UnlearningCompleted(
            id,
            completion.evidenceRoot,
            completion.adapter,
            completion.firstAffectedRound,
            completion.guarantee,
            block.timestamp > stored.deadline,
            organizations
        );
    }

    /// @notice Refuses a request in public; for its task's coordinator, with or without its role.
    /// @param id Id of the request.
    /// @param reason Why; what each number means is agreed off the chain.
    /// @param details Hash of what there is to say about it, or zero.
    function reject(bytes32 id, uint16 reason, bytes32 details) external {
        StoredRequest storage stored = _openRequest(id);
        bytes32 task = stored.task;
        address coordinator = ROUNDS.coordinatorOf(task);
        if (msg.sender != coordinator) {
            revert UnlearningNotCoordinator(task, msg.sender, coordinator);
        }
        if (reason == 0) revert UnlearningZeroValue("reason");
        stored.state = State.Rejected;
        stored.reason = reason;
        stored.closedAt = uint40(block.timestamp);
        stored.details = details;
        emit UnlearningRejected(id, reason, details);
    }

    /// @notice Takes a request back; brought by anyone.
    /// @param id Id of the request.
    /// @param signature Signature over the `Cancellation`, by EIP-712, of the organization's
    /// current key or of the one that it left with.
    function cancel(bytes32 id, bytes calldata signature) external {
        StoredRequest storage stored = _openRequest(id);
        _requireSigned(stored.organization, cancellationDigest(id), signature);
        stored.state = State.Cancelled;
        stored.closedAt = uint40(block.timestamp);
        emit UnlearningCancelled(id);
    }

    /// @notice State of a request; `None` for one that nobody brought.
    function stateOf(bytes32 id) external view returns (State) {
        return _requests[id].state;
    }

    /// @notice Whether the deadline passed before anything became of a request.
    function isOverdue(bytes32 id) external view returns (bool) {
        StoredRequest storage stored = _requests[id];
        return stored.state == State.Open && block.timestamp > stored.deadline;
    }

    /// @notice A request; all zero for one that nobody brought.
    function getRequest(bytes32 id) external view returns (Record memory) {
        StoredRequest storage stored = _requests[id];
        return Record({
            state: stored.state,
            task: stored.task,
            organization: stored.organization,
            subject: stored.subject,
            scope: stored.scope,
            deadline: stored.deadline,
            requestedAt: stored.requestedAt,
            closedAt: stored.closedAt,
            completion: Completion({
                evidenceRoot: stored.evidenceRoot,
                adapter: stored.adapter,
                firstAffectedRound: stored.firstAffectedRound,
                guarantee: stored.guarantee
            }),
            reason: stored.reason,
            details: stored.details
        });
    }

    /// @notice The id that a request must have, whatever id it has: keccak-256 of `abi.encode` of
    /// its task, organization, subject, scope and deadline.
    /// @dev Nobody else can then take the id of a request that is still on its way, and so keep it
    /// out. The salt in the subject makes it as good as random.
    function idOf(Request calldata wanted) public pure returns (bytes32) {
        return keccak256(
            abi.encode(
                wanted.task, wanted.organization, wanted.subject, wanted.scope, wanted.deadline
            )
        );
    }

    /// @notice What an organization signs to ask.
    function requestDigest(Request calldata wanted) public view returns (bytes32) {
        // Every member of the struct takes one word, as EIP-712 encodes it too.
        return _hashTypedDataV4(keccak256(abi.encode(_REQUEST, wanted)));
    }

    /// @notice What an attestor signs.
    /// @param organization The attestor.
    function completionDigest(bytes32 id, bytes32 organization, Completion calldata completion)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(_COMPLETION, id, organization, completion)));
    }

    /// @notice What an organization signs to take its request back.
    function cancellationDigest(bytes32 id) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(_CANCELLATION, id)));
    }

    function _openRequest(bytes32 id) private view returns (StoredRequest storage stored) {
        stored = _requests[id];
        if (stored.state != State.Open) revert UnlearningNotOpen(id, stored.state);
    }

    function _requireSound(bytes32 task, Completion calldata completion) private view {
        if (completion.evidenceRoot == 0) revert UnlearningZeroValue("evidenceRoot");
        if (completion.adapter == 0) revert UnlearningZeroValue("adapter");
        uint64 first = completion.firstAffectedRound;
        if ((first == 0) != (completion.guarantee == Guarantee.NothingToForget)) {
            revert UnlearningWrongFirstRound(first, completion.guarantee);
        }
        if (first != 0 && ROUNDS.phaseOf(task, first) == IRounds.Phase.None) {
            revert UnlearningUnknownRound(task, first);
        }
    }

    function _requireSigned(bytes32 organization, bytes32 digest, bytes calldata signature)
        private
        view
    {
        address key = REGISTRY.lastKeyOf(organization);
        // Without this, a malformed signature would be that of a key that is not there.
        if (key == address(0)) revert UnlearningNoKey(organization);
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (signer != key) revert UnlearningWrongSigner(organization, signer, key);
    }
}
