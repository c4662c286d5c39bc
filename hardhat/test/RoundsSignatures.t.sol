// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "../contracts/Attestors.sol";
import {IRounds} from "../contracts/IRounds.sol";
import {Omissions} from "../contracts/Omissions.sol";
import {Rounds} from "../contracts/Rounds.sol";
import {RoundsState} from "../contracts/RoundsState.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev Signatures that are forged, malformed, or made for something else: of updates, of receipts
/// and of attestations. Each is refused with the signer that it would have.
contract RoundsSignaturesTest is RoundsFixture {
    Submissions.ModelUpdate private _update0;
    bytes32 private _digest0;

    function setUp() public override {
        super.setUp();
        _open(1);
        _update0 = _update(0, 1);
        _digest0 = _digestOf(_update0);
    }

    function test_AnUpdateIsRefusedUnderTheSecondFormOfItsSignature() public {
        _refusedUpdate(_highS(_signed(_secret(0), _digest0)));
        _rounds.submitBySig(_update0, _signed(_secret(0), _digest0));
    }

    function test_AMalformedSignatureOfAnUpdateIsRefused() public {
        bytes memory signature = _signed(_secret(0), _digest0);
        _refusedUpdate("");
        _refusedUpdate(hex"00");
        _refusedUpdate(bytes.concat(signature, hex"00"));
        _refusedUpdate(new bytes(65));
        _refusedUpdate(_cut(signature, 64));
        _refusedUpdate(_withV(signature, 0));
        _refusedUpdate(_withV(signature, 29));
    }

    function test_AnUpdateSignedByAnotherKeyIsRefused() public {
        uint256[3] memory secrets = [_secret(1), _LEAD_SECRET, _secret(0, 1)];
        for (uint256 i = 0; i < 3; ++i) _refusedUpdate(_signed(secrets[i], _digest0));
    }

    function test_AnUpdateSignedForAnotherChainOrContractIsRefused() public {
        bytes32 structHash = _structHash(_update0);
        bytes32 elsewhere = _typed(structHash, block.chainid + 1, address(_rounds));
        _refusedUpdate(_signed(_secret(0), elsewhere));
        elsewhere = _typed(structHash, block.chainid, address(_registry));
        _refusedUpdate(_signed(_secret(0), elsewhere));
        _refusedUpdate(_signed(_secret(0), _digest(structHash)));
        _refusedUpdate(_signed(_secret(0), structHash));
    }

    function test_AnUpdateSignedForAnotherRoundTaskOrOrganizationIsRefused() public {
        for (uint256 i = 0; i < 8; ++i) {
            Submissions.ModelUpdate memory other = _update(0, 1);
            if (i == 0) other.round = 2;
            if (i == 1) other.task = "other";
            if (i == 2) other.organization = _org(1);
            if (i == 3) other.parentAdapter = "other";
            if (i == 4) other.terms = "other";
            if (i == 5) other.commitment = "other";
            if (i == 6) ++other.numExamples;
            if (i == 7) --other.deadline;
            _refusedUpdate(_signed(_secret(0), _digestOf(other)));
        }
        _rounds.submitBySig(_update0, _signed(_secret(0), _digest0));
    }

    function test_AnUpdateIsNotReplayedInALaterRoundOnTheSameParent() public {
        bytes memory signature = _signed(_secret(0), _digest0);
        _rounds.submitBySig(_update0, signature);
        _void(1);
        _open(2);
        _refusesPhase(
            _STRANGER,
            0,
            abi.encodeCall(_rounds.submitBySig, (_update0, signature)),
            1,
            IRounds.Phase.Open
        );
        _update0.round = 2;
        _digest0 = _digestOf(_update0);
        _refusedUpdate(signature);
    }

    function test_AnUpdateIsNotReplayedOnAnotherContract() public {
        bytes memory signature = _signed(_secret(0), _digest0);
        _rounds = new Rounds(_registry);
        _task = _openedTask(_TERMS);
        _open(1);
        _update0 = _update(0, 1);
        _digest0 = _digestOf(_update0);
        _refusedUpdate(signature);
    }

    function test_AfterARotationOnlyTheNewKeySubmits() public {
        _refusedUpdate(_signed(_secret(0, 1), _digest0));
        _rotated(0, 0);
        bytes memory refused = abi.encodeWithSelector(
            Submissions.SubmissionsWrongSigner.selector, _org(0), _key(0), _key(0, 1)
        );
        bytes memory signature = _signed(_secret(0), _digest0);
        _refuses(_STRANGER, abi.encodeCall(_rounds.submitBySig, (_update0, signature)), refused);
        _refuses(_key(0), abi.encodeCall(_rounds.submitDirect, (_update0)), refused);
        _rounds.submitBySig(_update0, _signed(_secret(0, 1), _digest0));
    }

    function test_BeforeARotationTheNewKeySendsNothing() public {
        _refuses(
            _key(0, 1),
            abi.encodeCall(_rounds.submitDirect, (_update0)),
            abi.encodeWithSelector(
                Submissions.SubmissionsWrongSigner.selector, _org(0), _key(0, 1), _key(0)
            )
        );
    }

    function test_AReceiptIsRefusedUnderTheSecondFormOfItsSignature() public {
        _seal(1);
        _refusedReceipt(_highS(_receipt(_update0)));
        _challenge(_update0);
    }

    function test_AMalformedReceiptIsRefused() public {
        _seal(1);
        bytes memory receipt = _receipt(_update0);
        _refusedReceipt(hex"00");
        _refusedReceipt(bytes.concat(receipt, hex"00"));
        _refusedReceipt(new bytes(65));
        _refusedReceipt(_cut(receipt, 64));
        _refusedReceipt(_withV(receipt, 0));
    }

    function test_AReceiptOfAnotherThanTheTasksCoordinatorIsRefused() public {
        _seal(1);
        bytes32 digest = _receiptDigest(_digest0);
        _refusedReceipt(_signed(_secret(0), digest));
        _refusedReceipt(_signed(0xBAD, digest));
    }

    function test_AReceiptForAnotherChainContractOrUpdateIsRefused() public {
        _seal(1);
        bytes32 structHash = _receiptHash(_digest0);
        _refusedReceipt(
            _signed(_LEAD_SECRET, _typed(structHash, block.chainid + 1, address(_rounds)))
        );
        _refusedReceipt(
            _signed(_LEAD_SECRET, _typed(structHash, block.chainid, address(_registry)))
        );
        _refusedReceipt(_signed(_LEAD_SECRET, _digest0));
        Submissions.ModelUpdate memory other = _update(1, 1);
        _refusedReceipt(_receipt(other));
        other = _update(0, 1);
        other.round = 2;
        _refusedReceipt(_receipt(other));
        other = _update(0, 1);
        other.task = "other";
        _refusedReceipt(_receipt(other));
    }

    function test_AnAttestationIsRefusedUnderTheSecondFormOfItsSignature() public {
        _seal(1);
        Attestors.Approval[] memory approvals = _attestations(1, 2);
        approvals[1].signature = _highS(approvals[1].signature);
        _refusedAttestation(approvals, address(0), 1);
    }

    function test_AMalformedAttestationIsRefused() public {
        _seal(1);
        Attestors.Approval[] memory approvals = _attestations(1, 2);
        bytes memory signature = approvals[1].signature;
        bytes[4] memory malformed =
            [bytes(""), new bytes(65), _cut(signature, 64), bytes.concat(signature, hex"00")];
        for (uint256 i = 0; i < 4; ++i) {
            approvals[1].signature = malformed[i];
            _refusedAttestation(approvals, address(0), 1);
        }
    }

    function test_AnAttestationForAnotherChainContractRoundOrTaskIsRefused() public {
        bytes32 other = _openedTask("other");
        _seal(1);
        _open(2);
        _seal(2);
        bytes32[7] memory digests = [
            _typed(_structHashOf(_task, 1, _org(1)), block.chainid + 1, address(_rounds)),
            _typed(_structHashOf(_task, 1, _org(1)), block.chainid, address(_registry)),
            _attestationDigest(2, _org(1), _SCORES),
            _typed(_structHashOf(other, 1, _org(1)), block.chainid, address(_rounds)),
            _attestationDigest(1, _org(0), _SCORES),
            _attestationDigest(1, _org(1), "other scores"),
            _structHashOf(_task, 1, _org(1))
        ];
        for (uint256 i = 0; i < digests.length; ++i) {
            Attestors.Approval[] memory approvals = _attestations(1, 2);
            approvals[1].signature = _signed(_secret(1), digests[i]);
            bytes32 actual = _attestationDigest(1, _org(1), _SCORES);
            _refusedAttestation(approvals, _signerOf(actual, approvals[1].signature), 1);
        }
    }

    /// @dev What attestors sign names the root, the adapter and the record of the round.
    function test_AnAttestationOfOtherResultsIsRefused() public {
        _seal(1);
        RoundsState.Round memory actual = _rounds.getRound(_task, 1);
        for (uint256 i = 0; i < 3; ++i) {
            bytes32 structHash = keccak256(
                abi.encode(
                    keccak256(
                        "Attestation(bytes32 task,uint64 round,bytes32 organization,"
                        "bytes32 updatesRoot,bytes32 adapter,bytes32 record,bytes32 scores)"
                    ),
                    _task,
                    1,
                    _org(1),
                    i == 0 ? bytes32("other") : actual.updatesRoot,
                    i == 1 ? bytes32("other") : actual.adapterHash,
                    i == 2 ? bytes32("other") : actual.record,
                    _SCORES
                )
            );
            Attestors.Approval[] memory approvals = _attestations(1, 2);
            approvals[1].signature =
                _signed(_secret(1), _typed(structHash, block.chainid, address(_rounds)));
            bytes32 digest = _attestationDigest(1, _org(1), _SCORES);
            _refusedAttestation(approvals, _signerOf(digest, approvals[1].signature), 1);
        }
        _attest(1);
    }

    function test_AfterARotationOnlyTheNewKeyAttests() public {
        _seal(1);
        Attestors.Approval[] memory approvals = _attestations(1, 2);
        bytes memory later =
            _signed(_secret(1, 1), _attestationDigest(1, _org(1), _SCORES));
        bytes memory earlier = approvals[1].signature;
        approvals[1].signature = later;
        _refusedAttestation(approvals, _key(1, 1), 1);
        _rotated(1, 0);
        approvals[1].signature = earlier;
        bytes4 selector = Attestors.AttestorsWrongSigner.selector;
        _refuses(
            _STRANGER,
            abi.encodeCall(_rounds.attest, (_task, 1, _SCORES, approvals)),
            abi.encodeWithSelector(selector, _org(1), _key(1), _key(1, 1))
        );
        approvals[1].signature = later;
        _rounds.attest(_task, 1, _SCORES, approvals);
        assert(_rounds.getRound(_task, 1).scores == _SCORES);
    }

    /// @dev Whatever the 65 bytes, only the signature that the organization made passes.
    function testFuzz_NoForgedSignatureSubmits(bytes32 r, bytes32 s, uint8 v) public {
        try _rounds.submitBySig(_update0, abi.encodePacked(r, s, v)) {
            assert(false);
        } catch {}
        assert(_rounds.submissionOf(_task, 1, _org(0)) == 0);
    }

    function testFuzz_NoFlippedBitOfASignatureSubmits(uint16 place) public {
        bytes memory signature = _signed(_secret(0), _digest0);
        place %= 65 * 8;
        signature[place / 8] ^= bytes1(uint8(1 << (place % 8)));
        try _rounds.submitBySig(_update0, signature) {
            assert(false);
        } catch {}
        assert(_rounds.submissionOf(_task, 1, _org(0)) == 0);
    }

    function testFuzz_AKeySubmitsOnlyForItsOwnOrganization(uint8 signer, uint8 name) public {
        (signer, name) = (signer % 6, name % 4);
        Submissions.ModelUpdate memory update = _update(name, 1);
        try _rounds.submitBySig(update, _signed(_secret(signer), _digestOf(update))) {
            assert(signer == name);
        } catch {
            assert(signer != name);
        }
        assert((_rounds.submissionOf(_task, 1, _org(name)) != 0) == (signer == name));
    }

    function _refusedUpdate(bytes memory signature) private {
        bytes4 selector = Submissions.SubmissionsWrongSigner.selector;
        _refuses(
            _STRANGER,
            abi.encodeCall(_rounds.submitBySig, (_update0, signature)),
            abi.encodeWithSelector(
                selector, _org(0), _rawSigner(_digest0, signature), _key(0)
            )
        );
    }

    function _refusedReceipt(bytes memory receipt) private {
        bytes4 selector = Omissions.OmissionsWrongReceipt.selector;
        address signer = _rawSigner(_receiptDigest(_digest0), receipt);
        _refuses(
            _STRANGER,
            _BOND,
            abi.encodeCall(_rounds.challengeOmission, (_update0, receipt)),
            abi.encodeWithSelector(selector, _digest0, signer, _lead)
        );
    }

    function _refusedAttestation(
        Attestors.Approval[] memory approvals,
        address signer,
        uint256 number
    ) private {
        bytes4 selector = Attestors.AttestorsWrongSigner.selector;
        _refuses(
            _STRANGER,
            abi.encodeCall(_rounds.attest, (_task, 1, _SCORES, approvals)),
            abi.encodeWithSelector(selector, _org(number), signer, _key(number))
        );
    }

    function _structHashOf(bytes32 task, uint64 round, bytes32 organization)
        private
        view
        returns (bytes32)
    {
        return _attestationHash(task, round, organization, _SCORES);
    }

    /// @dev Whose signature this would be; zero for a malformed one.
    function _rawSigner(bytes32 digest, bytes memory signature) private view returns (address) {
        try this.signerOf(digest, signature) returns (address signer) {
            return signer;
        } catch {
            return address(0);
        }
    }

    function signerOf(bytes32 digest, bytes memory signature) external pure returns (address) {
        return _signerOf(digest, signature);
    }

    function _cut(bytes memory data, uint256 length) private pure returns (bytes memory part) {
        part = new bytes(length);
        for (uint256 i = 0; i < length; ++i) part[i] = data[i];
    }

    function _withV(bytes memory signature, uint8 v) private pure returns (bytes memory) {
        return abi.encodePacked(_cut(signature, 64), v);
    }
}
