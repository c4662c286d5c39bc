// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestations} from "../contracts/Attestations.sol";
import {Attestors} from "../contracts/Attestors.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Registry} from "../contracts/Registry.sol";
import {RoundsState} from "../contracts/RoundsState.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev Two of the attestors, organizations 0 to 2, attest a sealed round. Organization 3 is a
/// member and no attestor.
contract RoundsAttestationsTest is RoundsFixture {
    function setUp() public override {
        super.setUp();
        _open(1);
        _seal(1);
    }

    function test_TheAttestationDigestIsThatOfEip712() public view {
        bytes32 digest = _attestationDigest(1, _org(2), _SCORES);
        assert(_rounds.attestationDigest(_task, 1, _org(2), _SCORES) == digest);
    }

    function test_AnyoneBringsEnoughAttestations() public {
        bytes32[] memory organizations = new bytes32[](2);
        (organizations[0], organizations[1]) = (_org(0), _org(1));
        Attestors.Approval[] memory approvals = _attestations(1, 2);
        VM.expectEmit();
        emit Attestations.RoundAttested(_task, 1, _SCORES, organizations);
        VM.prank(_STRANGER);
        _rounds.attest(_task, 1, _SCORES, approvals);
        assert(_rounds.getRound(_task, 1).scores == _SCORES);
        assert(_phase(1) == IRounds.Phase.Sealed);
    }

    function test_MoreAttestationsThanNeededAreKeptToo() public {
        _rounds.attest(_task, 1, _SCORES, _attestations(1, 3));
        assert(_rounds.getRound(_task, 1).scores == _SCORES);
    }

    function test_FewerAttestationsThanNeededAreRefused() public {
        bytes4 selector = Attestors.AttestorsTooFew.selector;
        _refused(_attestations(1, 1), abi.encodeWithSelector(selector, 1, 2));
        _refused(_attestations(1, 0), abi.encodeWithSelector(selector, 0, 2));
    }

    function test_NoAttestorCountsTwiceAndTheirOrderIsFixed() public {
        bytes4 selector = Attestors.AttestorsUnsorted.selector;
        Attestors.Approval[] memory approvals = _attestations(1, 2);
        approvals[1] = approvals[0];
        _refused(approvals, abi.encodeWithSelector(selector, _org(0), _org(0)));
        approvals = _attestations(1, 2);
        (approvals[0], approvals[1]) = (approvals[1], approvals[0]);
        _refused(approvals, abi.encodeWithSelector(selector, _org(0), _org(1)));
        approvals[0].organization = 0;
        _refused(approvals, abi.encodeWithSelector(selector, 0, 0));
    }

    function test_AMemberThatIsNoAttestorIsRefusedEvenBesideEnough() public {
        _refused(
            _attestations(1, 4),
            abi.encodeWithSelector(Attestors.AttestorsNotAttestor.selector, _org(3))
        );
    }

    function test_AnOrganizationThatIsNoLongerAnAttestorIsRefused() public {
        Attestors.Approval[] memory approvals = _attestations(1, 2);
        _executed(_about(Registry.Kind.RemoveAttestor, 1));
        _refused(
            approvals, abi.encodeWithSelector(Attestors.AttestorsNotAttestor.selector, _org(1))
        );
    }

    function test_OneWrongSignatureSpoilsTheOthers() public {
        Attestors.Approval[] memory approvals = _attestations(1, 3);
        approvals[2].signature = _signed(_secret(1), _attestationDigest(1, _org(2), _SCORES));
        bytes4 selector = Attestors.AttestorsWrongSigner.selector;
        _refused(approvals, abi.encodeWithSelector(selector, _org(2), _key(1), _key(2)));
        approvals[2].signature = hex"00";
        _refused(approvals, abi.encodeWithSelector(selector, _org(2), address(0), _key(2)));
    }

    function test_ScoresAreNeeded() public {
        _refuses(
            _STRANGER,
            abi.encodeCall(_rounds.attest, (_task, 1, 0, _attestations(1, 2))),
            abi.encodeWithSelector(RoundsState.RoundsZeroValue.selector, "scores")
        );
    }

    function test_ARoundIsAttestedOnce() public {
        _attest(1);
        bytes4 selector = Attestations.AttestationsAlreadyAttested.selector;
        bytes memory refused = abi.encodeWithSelector(selector, _task, 1, _SCORES);
        _refused(_attestations(1, 2), refused);
        _refuses(
            _STRANGER,
            abi.encodeCall(_rounds.attest, (_task, 1, "other", _attestations(1, 3))),
            refused
        );
    }

    function test_OnlyASealedRoundIsAttested() public {
        _finalize(1);
        _refusedInPhase(1);
        _refusedInPhase(2);
        _open(2);
        _refusedInPhase(2);
        _void(2);
        _refusedInPhase(2);
        _disputed(3);
        _refusedInPhase(3);
    }

    function test_AChallengedRoundIsAttestedToo() public {
        _challenge(_update(0, 1));
        _attest(1);
        assert(_rounds.getRound(_task, 1).scores == _SCORES);
    }

    /// @dev Any of the attestors, in order: it takes as many as the registry says.
    function testFuzz_AttestationsCountExactlyFromTheThresholdOn(uint8 set, uint8 threshold)
        public
    {
        uint16 needed = threshold % 3 + 1;
        _executed(_toThreshold(Registry.Kind.SetAttestorThreshold, needed));
        Attestors.Approval[] memory all = _attestations(1, 3);
        Attestors.Approval[] memory chosen = new Attestors.Approval[](3);
        uint256 length = 0;
        for (uint256 i = 0; i < 3; ++i) if (set >> i & 1 != 0) chosen[length++] = all[i];
        assembly ("memory-safe") {
            mstore(chosen, length)
        }
        if (length < needed) {
            bytes4 selector = Attestors.AttestorsTooFew.selector;
            _refused(chosen, abi.encodeWithSelector(selector, length, needed));
        } else {
            _rounds.attest(_task, 1, _SCORES, chosen);
            assert(_rounds.getRound(_task, 1).scores == _SCORES);
        }
    }

    function _refused(Attestors.Approval[] memory approvals, bytes memory reason) private {
        _refuses(
            _STRANGER, abi.encodeCall(_rounds.attest, (_task, 1, _SCORES, approvals)), reason
        );
    }

    function _refusedInPhase(uint64 round) private {
        bytes memory call =
            abi.encodeCall(_rounds.attest, (_task, round, _SCORES, _attestations(round, 2)));
        _refusesPhase(_STRANGER, 0, call, round, IRounds.Phase.Sealed);
    }
}
