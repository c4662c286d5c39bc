// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {COORDINATOR} from "../contracts/IRegistry.sol";
import {MemberKeys} from "../contracts/MemberKeys.sol";
import {Registry} from "../contracts/Registry.sol";
import {VM} from "./Cheats.sol";
import {RegistryFixture} from "./RegistryFixture.sol";

/// @dev Signatures that do not count: forged, replayed, expired, doubled or of somebody else.
contract RegistrySignaturesTest is RegistryFixture {
    uint256 private constant _ORDER =
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function test_ExecuteRefusesFewerApprovalsThanTheThreshold() public {
        Registry.Change memory change = _admission(4, 0, 3);
        for (uint256 count = 0; count < _K; ++count) {
            Registry.Approval[] memory approvals = _approvals(_digest(change), count);
            VM.expectRevert(
                abi.encodeWithSelector(Registry.RegistryTooFewApprovals.selector, count, _K)
            );
            _registry.execute(change, approvals);
        }
    }

    function test_ExecuteAcceptsMoreApprovalsThanTheThresholdFromAnyone() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _COUNT);
        VM.prank(address(0xBEEF));
        _registry.execute(change, approvals);
        assert(_registry.isMember(_org(4)));
    }

    function test_ExecuteRefusesAnInvalidApprovalBeyondTheThreshold() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _COUNT);
        approvals[3].signature = approvals[2].signature;
        _refusedSigner(change, approvals, 3, _key(2));
    }

    function test_ExecuteRefusesADuplicateApprover() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        approvals[2] = approvals[1];
        VM.expectRevert(
            abi.encodeWithSelector(
                Registry.RegistryUnsortedApprovals.selector, _org(1), _org(1)
            )
        );
        _registry.execute(change, approvals);
    }

    function test_ExecuteRefusesUnsortedApprovals() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        (approvals[0], approvals[1]) = (approvals[1], approvals[0]);
        VM.expectRevert(
            abi.encodeWithSelector(
                Registry.RegistryUnsortedApprovals.selector, _org(0), _org(1)
            )
        );
        _registry.execute(change, approvals);
    }

    function test_ExecuteRefusesTheZeroOrganization() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        approvals[0].organization = 0;
        VM.expectRevert(
            abi.encodeWithSelector(Registry.RegistryUnsortedApprovals.selector, 0, 0)
        );
        _registry.execute(change, approvals);
    }

    function test_ExecuteRefusesAnApproverThatIsNoMember() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        approvals[2] = Registry.Approval(_org(4), _signed(_secret(4), _digest(change)));
        VM.expectRevert(abi.encodeWithSelector(MemberKeys.MemberKeysNotMember.selector, _org(4)));
        _registry.execute(change, approvals);
    }

    function test_ExecuteRefusesAnApproverThatLeft() public {
        _departed(2);
        _refused(
            _admission(4, 0, 3),
            abi.encodeWithSelector(MemberKeys.MemberKeysNotMember.selector, _org(2))
        );
    }

    function test_TheCoordinatorHoldsNoVote() public {
        address account = _key(9);
        _executed(_ofRole(Registry.Kind.GrantRole, COORDINATOR, account));
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        approvals[2].signature = _signed(_secret(9), _digest(change));
        bytes memory refused = abi.encodeWithSelector(
            MemberKeys.MemberKeysWrongSigner.selector, _org(2), account, _key(2)
        );
        VM.expectRevert(refused);
        VM.prank(account);
        _registry.execute(change, approvals);
        approvals[2].organization = bytes32(uint256(uint160(account)) << 96 | uint256(1) << 255);
        VM.expectRevert(
            abi.encodeWithSelector(
                MemberKeys.MemberKeysNotMember.selector, approvals[2].organization
            )
        );
        VM.prank(account);
        _registry.execute(change, approvals);
    }

    function test_ExecuteRefusesSignaturesForAnotherContract() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry other = new Registry(_founding());
        bytes32 foreign = _digest(_hash(change), block.chainid, address(other));
        _refusedForeign(change, foreign);
        other.execute(change, _approvals(foreign, _K));
    }

    function test_ExecuteRefusesSignaturesForAnotherChain() public {
        Registry.Change memory change = _admission(4, 0, 3);
        bytes32 foreign = _digest(_hash(change), block.chainid + 1, address(_registry));
        _refusedForeign(change, foreign);
        VM.chainId(block.chainid + 1);
        _registry.execute(change, _approvals(foreign, _K));
    }

    function test_ExecuteRefusesSignaturesOverAnotherChange() public {
        Registry.Change memory change = _admission(4, 0, 3);
        bytes32 foreign = _digest(_removal(3, 3));
        _refusedForeign(change, foreign);
    }

    /// @dev Whichever field differs from what was signed, the signatures do not hold.
    function testFuzz_EveryFieldOfAChangeIsSigned(uint8 field, uint8 bit) public {
        Registry.Change memory change = _admission(4, 0, 3);
        bytes32 signed = _digest(change);
        bytes32 flip = bytes32(uint256(1) << bit);
        field %= 8;
        if (field == 0) change.kind = Registry.Kind(1 + bit % 8);
        else if (field == 1) change.organization ^= flip;
        else if (field == 2) change.account = address(uint160(bit) + 1);
        else if (field == 3) change.nodeKey ^= flip;
        else if (field == 4) change.metadata ^= flip;
        else if (field == 5) change.role ^= flip;
        else if (field == 6) change.threshold ^= uint16(1 << bit % 16);
        else change.deadline += uint256(bit) + 1;
        _refusedForeign(change, signed);
    }

    function test_ExecuteRefusesAReplay() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        _registry.execute(change, approvals);
        VM.expectRevert(
            abi.encodeWithSelector(Registry.RegistryUnexpectedNonce.selector, 0, 1)
        );
        _registry.execute(change, approvals);
        bytes32 signed = _digest(change);
        change.nonce = 1;
        _refusedForeign(change, signed);
    }

    function testFuzz_ExecuteRefusesAnyOtherNonce(uint256 nonce) public {
        VM.assume(nonce != 0);
        Registry.Change memory change = _admission(4, 0, 3);
        change.nonce = nonce;
        _refused(
            change, abi.encodeWithSelector(Registry.RegistryUnexpectedNonce.selector, nonce, 0)
        );
    }

    function test_ExecuteHoldsUntilTheLastSecondOfItsDeadline() public {
        Registry.Change memory change = _admission(4, 0, 3);
        VM.warp(_DEADLINE + 1);
        _refused(
            change,
            abi.encodeWithSelector(
                MemberKeys.MemberKeysExpired.selector, _DEADLINE, _DEADLINE + 1
            )
        );
        VM.warp(_DEADLINE);
        _executed(change);
    }

    function test_ExecuteRefusesAHighS() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(_secret(1), _digest(change));
        bytes32 high = bytes32(_ORDER - uint256(s));
        approvals[1].signature = abi.encodePacked(r, high, v ^ 7);
        VM.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, high));
        _registry.execute(change, approvals);
    }

    function test_ExecuteRefusesASignatureOfAnotherLength() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(_secret(1), _digest(change));
        bytes32 compact = bytes32(uint256(s) | uint256(v - 27) << 255);
        bytes4 selector = ECDSA.ECDSAInvalidSignatureLength.selector;
        approvals[1].signature = abi.encodePacked(r, compact);
        VM.expectRevert(abi.encodeWithSelector(selector, 64));
        _registry.execute(change, approvals);
        approvals[1].signature = "";
        VM.expectRevert(abi.encodeWithSelector(selector, 0));
        _registry.execute(change, approvals);
    }

    function test_ExecuteRefusesASignatureOfNoKey() public {
        Registry.Change memory change = _admission(4, 0, 3);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        approvals[1].signature = new bytes(65);
        VM.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignature.selector));
        _registry.execute(change, approvals);
    }

    function test_OwnSignaturesExpire() public {
        bytes memory expired = abi.encodeWithSelector(
            MemberKeys.MemberKeysExpired.selector, _DEADLINE, _DEADLINE + 1
        );
        bytes memory departure = _departure(0);
        _executed(_recovery(0, 1));
        VM.warp(_DEADLINE + 1);
        VM.expectRevert(expired);
        _registry.depart(_org(0), _DEADLINE, departure);
        VM.expectRevert(expired);
        _registry.updateProfile(_org(0), _NODE_KEY, _METADATA, _DEADLINE, "");
        VM.expectRevert(expired);
        _registry.rotateKey(_org(0), address(7), _DEADLINE, "", "");
        VM.expectRevert(expired);
        _registry.cancelRecovery(_org(0), _DEADLINE, "");
        VM.warp(_DEADLINE);
        _registry.depart(_org(0), _DEADLINE, departure);
    }

    function test_OwnSignaturesHoldOnce() public {
        bytes memory signature = _signed(_secret(0), _profileDigest(0, _NODE_KEY, _METADATA, 0));
        _registry.updateProfile(_org(0), _NODE_KEY, _METADATA, _DEADLINE, signature);
        address signer = _signerOf(_profileDigest(0, _NODE_KEY, _METADATA, 1), signature);
        VM.expectRevert(_wrongSigner(0, signer));
        _registry.updateProfile(_org(0), _NODE_KEY, _METADATA, _DEADLINE, signature);
    }

    function test_OwnSignaturesAreThoseOfTheOrganizationItself() public {
        bytes memory departure = _signed(_secret(1), _departureDigest(0, 0));
        VM.expectRevert(_wrongSigner(0, _key(1)));
        _registry.depart(_org(0), _DEADLINE, departure);
        bytes memory update = _signed(_secret(1), _profileDigest(0, _NODE_KEY, _METADATA, 0));
        VM.expectRevert(_wrongSigner(0, _key(1)));
        _registry.updateProfile(_org(0), _NODE_KEY, _METADATA, _DEADLINE, update);
    }

    function test_OwnSignaturesHoldForOnePurposeContractAndChain() public {
        bytes memory signature = _departure(0);
        address signer = _signerOf(_profileDigest(0, _NODE_KEY, _METADATA, 0), signature);
        VM.expectRevert(_wrongSigner(0, signer));
        _registry.updateProfile(_org(0), _NODE_KEY, _METADATA, _DEADLINE, signature);

        uint256 chain = block.chainid;
        VM.chainId(chain + 1);
        signer = _signerOf(_departureDigest(0, 0), signature);
        VM.expectRevert(_wrongSigner(0, signer));
        _registry.depart(_org(0), _DEADLINE, signature);
        VM.chainId(chain);

        Registry here = _registry;
        _registry = new Registry(_founding());
        signer = _signerOf(_departureDigest(0, 0), signature);
        VM.expectRevert(_wrongSigner(0, signer));
        _registry.depart(_org(0), _DEADLINE, signature);
        here.depart(_org(0), _DEADLINE, signature);
    }

    function _wrongSigner(uint256 number, address signer) private pure returns (bytes memory) {
        return abi.encodeWithSelector(
            MemberKeys.MemberKeysWrongSigner.selector, _org(number), signer, _key(number)
        );
    }

    /// @dev The first members sign `foreign` for a change whose digest is another.
    function _refusedForeign(Registry.Change memory change, bytes32 foreign) private {
        Registry.Approval[] memory approvals = _approvals(foreign, _K);
        assert(foreign != _digest(change));
        address signer = _signerOf(_digest(change), approvals[0].signature);
        _refusedSigner(change, approvals, 0, signer);
    }

    function _refusedSigner(
        Registry.Change memory change,
        Registry.Approval[] memory approvals,
        uint256 number,
        address signer
    ) private {
        VM.expectRevert(_wrongSigner(number, signer));
        _registry.execute(change, approvals);
    }
}
