// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "../contracts/Attestors.sol";
import {Registry} from "../contracts/Registry.sol";
import {Unlearning} from "../contracts/Unlearning.sol";
import {VM} from "./Cheats.sol";
import {UnlearningFixture} from "./UnlearningFixture.sol";

/// @dev Whose word completes a request: that of enough distinct attestors, with their present keys.
contract UnlearningAttestorsTest is UnlearningFixture {
    bytes32 private _request;

    function setUp() public override {
        super.setUp();
        _request = _requested();
    }

    function test_CompleteRefusesFewerAttestorsThanNeeded() public {
        for (uint256 count = 0; count < _NEEDED; ++count) {
            _refused(
                abi.encodeWithSelector(Attestors.AttestorsTooFew.selector, count, _NEEDED),
                _approvals(count)
            );
        }
    }

    function test_CompleteAcceptsAnyTwoOfTheThreeAttestors() public {
        for (uint256 left = 0; left < 3; ++left) {
            setUp();
            Attestors.Approval[] memory three = _approvals(3);
            Attestors.Approval[] memory two = new Attestors.Approval[](2);
            two[0] = three[left == 0 ? 1 : 0];
            two[1] = three[left == 2 ? 1 : 2];
            _unlearning.complete(_request, _completion(), two);
            assert(_unlearning.stateOf(_request) == Unlearning.State.Completed);
        }
    }

    function test_CompleteAcceptsMoreAttestorsThanNeeded() public {
        _unlearning.complete(_request, _completion(), _approvals(3));
        assert(_unlearning.stateOf(_request) == Unlearning.State.Completed);
    }

    function test_CompleteRefusesAnInvalidSignatureBeyondThoseNeeded() public {
        Attestors.Approval[] memory approvals = _approvals(3);
        approvals[2].signature = new bytes(65);
        _refused(_wrongSigner(2, address(0)), approvals);
    }

    function test_CompleteRefusesTheSameAttestorTwice() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        approvals[1] = approvals[0];
        _refused(_unsorted(0, 0), approvals);
    }

    function test_CompleteRefusesTheSameAttestorTwiceByAnotherFormOfItsSignature() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        approvals[1] = Attestors.Approval(_org(0), _highS(approvals[0].signature));
        _refused(_unsorted(0, 0), approvals);
    }

    function test_CompleteRefusesTheSameAttestorTwiceWithAnotherBetween() public {
        Attestors.Approval[] memory two = _approvals(2);
        Attestors.Approval[] memory approvals = new Attestors.Approval[](3);
        (approvals[0], approvals[1], approvals[2]) = (two[0], two[1], two[0]);
        _refused(_unsorted(0, 1), approvals);
    }

    function test_CompleteRefusesAttestorsOutOfOrder() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        (approvals[0], approvals[1]) = (approvals[1], approvals[0]);
        _refused(_unsorted(0, 1), approvals);
    }

    function test_CompleteRefusesTheOrganizationZero() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        approvals[0].organization = 0;
        _refused(
            abi.encodeWithSelector(Attestors.AttestorsUnsorted.selector, bytes32(0), bytes32(0)),
            approvals
        );
    }

    function test_CompleteRefusesAMemberThatIsNoAttestor() public {
        Attestors.Approval[] memory approvals = _approvals(4);
        approvals[2] = approvals[3];
        assembly ("memory-safe") {
            mstore(approvals, 3)
        }
        _refused(_notAttestor(3), approvals);
    }

    function test_CompleteRefusesSomebodyWhoNeverWasAMember() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        approvals[1] = Attestors.Approval(_org(7), new bytes(65));
        _refused(_notAttestor(7), approvals);
    }

    function test_CompleteRefusesAnAttestorThatLeft() public {
        _executed(_about(Registry.Kind.AddAttestor, _ASKING));
        _departed(2);
        _refused(_notAttestor(2), _approvals(3));
    }

    function test_CompleteRefusesAnOrganizationThatIsNoLongerAnAttestor() public {
        _executed(_about(Registry.Kind.RemoveAttestor, 1));
        _refused(_notAttestor(1), _approvals(2));
    }

    function test_CompleteTakesTheThresholdThatIsSetNow() public {
        _executed(_toThreshold(Registry.Kind.SetAttestorThreshold, 3));
        _refused(
            abi.encodeWithSelector(Attestors.AttestorsTooFew.selector, 2, 3), _approvals(2)
        );
        _unlearning.complete(_request, _completion(), _approvals(3));
    }

    function test_CompleteRefusesAnAttestorsKeyBeforeItsRotation() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        _rotated(1, 0);
        bytes memory refused = abi.encodeWithSelector(
            Attestors.AttestorsWrongSigner.selector, _org(1), _key(1), _key(1, 1)
        );
        _refused(refused, approvals);
        bytes32 digest = _digest(_request, _org(1), _completion());
        approvals[1].signature = _signed(_secret(1, 1), digest);
        _unlearning.complete(_request, _completion(), approvals);
    }

    function test_CompleteRefusesOneAttestorsSignatureInAnothersName() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        bytes32 named = _digest(_request, _org(1), _completion());
        approvals[1].signature = _signed(_secret(0), named);
        _refused(_wrongSigner(1, _key(0)), approvals);
        approvals[1].signature = approvals[0].signature;
        _refused(_wrongSigner(1, _signerOf(named, approvals[0].signature)), approvals);
    }

    function test_CompleteRefusesTheCoordinatorsSignature() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        bytes32 digest = _digest(_request, _org(1), _completion());
        approvals[1].signature = _signed(0xC0FFEE, digest);
        _refused(_wrongSigner(1, VM.addr(0xC0FFEE)), approvals);
    }

    function test_CompleteRefusesSignaturesOfAnotherLength() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        bytes memory good = approvals[1].signature;
        approvals[1].signature = "";
        _refused(_wrongSigner(1, address(0)), approvals);
        approvals[1].signature = abi.encodePacked(good, uint8(0));
        _refused(_wrongSigner(1, address(0)), approvals);
        approvals[1].signature = new bytes(64);
        _refused(_wrongSigner(1, address(0)), approvals);
    }

    function test_CompleteRefusesTheSecondFormOfASignature() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        approvals[1].signature = _highS(approvals[1].signature);
        _refused(_wrongSigner(1, address(0)), approvals);
    }

    /// @dev What was signed is what is recorded: changing anything voids every signature.
    function test_CompleteRefusesWhatWasNotSigned() public {
        for (uint256 i = 0; i < 4; ++i) {
            Unlearning.Completion memory other = _completion();
            if (i == 0) other.evidenceRoot = keccak256("other evidence");
            if (i == 1) other.adapter = keccak256("other adapter");
            if (i == 2) other.guarantee = Unlearning.Guarantee.ExactIsolated;
            if (i == 3) {
                other.firstAffectedRound = 0;
                other.guarantee = Unlearning.Guarantee.NothingToForget;
            }
            _misused(_request, other, _approvals(2));
        }
    }

    function test_CompleteRefusesSignaturesForAnotherRequest() public {
        bytes32 other = _requested(_wanted(2));
        _misused(other, _completion(), _approvals(2));
        _unlearning.complete(_request, _completion(), _approvals(2));
        _misused(other, _completion(), _approvals(2));
        assert(_unlearning.stateOf(other) == Unlearning.State.Open);
    }

    function test_CompleteRefusesSignaturesForAnotherContract() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        Unlearning other = new Unlearning(_registry, _rounds);
        Unlearning here = _unlearning;
        _unlearning = other;
        _requested();
        _misused(_request, _completion(), approvals);
        _unlearning = here;
        here.complete(_request, _completion(), approvals);
        assert(other.stateOf(_request) == Unlearning.State.Open);
    }

    function test_CompleteRefusesSignaturesForAnotherChain() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        VM.chainId(block.chainid + 1);
        _misused(_request, _completion(), approvals);
    }

    function test_CompleteRefusesSignaturesForAnotherContractsName() public {
        Attestors.Approval[] memory approvals = _approvals(2);
        bytes32 hash = _hash(_request, _org(0), _completion());
        bytes32 foreign =
            _typed(hash, "Foedus Rounds", "1", block.chainid, address(_unlearning));
        approvals[0].signature = _signed(_secret(0), foreign);
        _misused(_request, _completion(), approvals);
    }

    function testFuzz_ACompletionIsSignedByItsDefinition(
        bytes32 id,
        bytes32 organization,
        bytes32 evidence,
        bytes32 adapter,
        uint64 first,
        uint8 guarantee
    ) public view {
        Unlearning.Completion memory completion = Unlearning.Completion(
            evidence, adapter, first, Unlearning.Guarantee(guarantee % 4)
        );
        bytes32 digest = _unlearning.completionDigest(id, organization, completion);
        assert(digest == _digest(id, organization, completion));
    }

    /// @dev Approvals in any order, in the name of attestors and others, signed by any of their
    /// keys over this completion or another: what passes was signed by two distinct attestors.
    function testFuzz_NoFewerThanKDistinctAttestorsEverComplete(
        uint8[5] memory names,
        uint8[5] memory signers,
        uint8 honest,
        uint8 other,
        uint8 length
    ) public {
        Unlearning.Completion memory foreign = _completion();
        foreign.adapter = keccak256("other adapter");
        Attestors.Approval[] memory approvals = new Attestors.Approval[](length % 6);
        uint256 signed = 0;
        for (uint256 i = 0; i < approvals.length; ++i) {
            uint256 name = other & 1 == 0 ? i : names[i] % 6;
            uint256 signer = honest >> i & 1 != 0 ? name : signers[i] % 6;
            bool same = other >> (i + 1) & 1 == 0 || names[i] > 128;
            bytes32 digest = _digest(_request, _org(name), same ? _completion() : foreign);
            approvals[i] = Attestors.Approval(_org(name), _signed(_secret(signer), digest));
            if (same && signer == name && name < 3) signed |= 1 << signer;
        }
        try _unlearning.complete(_request, _completion(), approvals) {
            assert(signed & (signed - 1) != 0);
        } catch {
            assert(_unlearning.stateOf(_request) == Unlearning.State.Open);
        }
    }

    function testFuzz_NoSingleKeyCompletes(uint8 signer, uint8[3] memory names) public {
        Attestors.Approval[] memory approvals = new Attestors.Approval[](3);
        for (uint256 i = 0; i < 3; ++i) {
            bytes32 name = _org(names[i] % 4);
            bytes32 digest = _digest(_request, name, _completion());
            approvals[i] = Attestors.Approval(name, _signed(_secret(signer % 4), digest));
        }
        try _unlearning.complete(_request, _completion(), approvals) {
            assert(false);
        } catch {
            assert(_unlearning.stateOf(_request) == Unlearning.State.Open);
        }
    }

    function _approvals(uint256 count) private view returns (Attestors.Approval[] memory) {
        return _attested(_request, _completion(), count);
    }

    function _refused(bytes memory reason, Attestors.Approval[] memory approvals) private {
        _refuseCompletion(reason, _request, _completion(), approvals);
        assert(_unlearning.stateOf(_request) == Unlearning.State.Open);
    }

    /// @dev Refused because the first attestor is seen to have signed something else.
    function _misused(
        bytes32 id,
        Unlearning.Completion memory completion,
        Attestors.Approval[] memory approvals
    ) private {
        bytes32 digest = _digest(id, _org(0), completion);
        address seen = _signerOf(digest, approvals[0].signature);
        assert(seen != _key(0));
        _refuseCompletion(_wrongSigner(0, seen), id, completion, approvals);
    }

    function _wrongSigner(uint256 number, address signer) private pure returns (bytes memory) {
        return abi.encodeWithSelector(
            Attestors.AttestorsWrongSigner.selector, _org(number), signer, _key(number)
        );
    }

    function _unsorted(uint256 number, uint256 previous) private pure returns (bytes memory) {
        return abi.encodeWithSelector(
            Attestors.AttestorsUnsorted.selector, _org(number), _org(previous)
        );
    }

    function _notAttestor(uint256 number) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Attestors.AttestorsNotAttestor.selector, _org(number));
    }
}
