// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Unlearning} from "../contracts/Unlearning.sol";
import {VM} from "./Cheats.sol";
import {UnlearningFixture} from "./UnlearningFixture.sol";

/// @dev Requests and cancellations that the organization did not sign so, not here or not with the
/// key that it has.
contract UnlearningSignaturesTest is UnlearningFixture {
    function test_RequestRefusesAnybodyElsesSignature() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        for (uint256 i = 0; i < 3; ++i) {
            _refusedRequest(wanted, _signed(_secret(i), _digest(wanted)), _key(i));
        }
        bytes memory signature = _signed(0xC0FFEE, _digest(wanted));
        _refusedRequest(wanted, signature, VM.addr(0xC0FFEE));
    }

    function test_RequestRefusesOneOrganizationsRequestInAnothersName() public {
        bytes memory signature = _signed(_secret(_ASKING), _digest(_wanted(_ASKING)));
        Unlearning.Request memory other = _wanted(2);
        address seen = _signerOf(_digest(other), signature);
        VM.expectRevert(_wrongSigner(2, seen, _key(2)));
        _unlearning.request(other, signature);
    }

    function test_RequestRefusesWhatWasNotSigned() public {
        bytes memory signature = _signed(_secret(_ASKING), _digest(_wanted(_ASKING)));
        bytes32 task = keccak256("another task");
        _rounds.setCoordinator(task, _COORDINATOR);
        for (uint256 i = 0; i < 4; ++i) {
            Unlearning.Request memory other = _wanted(_ASKING);
            if (i == 0) other.task = task;
            if (i == 1) other.subject = keccak256("another subject");
            if (i == 2) other.scope = Unlearning.Scope.Organization;
            if (i == 3) other.deadline += 1;
            other.id = _id(other);
            _misusedRequest(other, signature);
        }
    }

    function test_RequestRefusesASignatureForAnotherContract() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes32 foreign =
            _typed(_hash(wanted), "Foedus Unlearning", "1", block.chainid, address(_rounds));
        _misusedRequest(wanted, _signed(_secret(_ASKING), foreign));
    }

    function test_RequestRefusesASignatureForAnotherNameOrVersion() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes32 hash = _hash(wanted);
        bytes32 foreign =
            _typed(hash, "Foedus Rounds", "1", block.chainid, address(_unlearning));
        _misusedRequest(wanted, _signed(_secret(_ASKING), foreign));
        foreign = _typed(hash, "Foedus Unlearning", "2", block.chainid, address(_unlearning));
        _misusedRequest(wanted, _signed(_secret(_ASKING), foreign));
        _misusedRequest(wanted, _signed(_secret(_ASKING), hash));
    }

    function test_RequestRefusesASignatureForAnotherChain() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes memory signature = _signed(_secret(_ASKING), _digest(wanted));
        VM.chainId(block.chainid + 1);
        _misusedRequest(wanted, signature);
    }

    function test_RequestRefusesTheSecondFormOfASignature() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes memory signature = _signed(_secret(_ASKING), _digest(wanted));
        _refusedRequest(wanted, _highS(signature), address(0));
    }

    function test_RequestRefusesSignaturesOfAnotherLength() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes memory good = _signed(_secret(_ASKING), _digest(wanted));
        _refusedRequest(wanted, "", address(0));
        _refusedRequest(wanted, new bytes(64), address(0));
        _refusedRequest(wanted, new bytes(65), address(0));
        _refusedRequest(wanted, abi.encodePacked(good, uint8(0)), address(0));
    }

    function test_RequestRefusesAKeyBeforeItsRotation() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes memory signature = _signed(_secret(_ASKING), _digest(wanted));
        _rotated(_ASKING, 0);
        VM.expectRevert(_wrongSigner(_ASKING, _key(_ASKING), _key(_ASKING, 1)));
        _unlearning.request(wanted, signature);
        _unlearning.request(wanted, _signed(_secret(_ASKING, 1), _digest(wanted)));
    }

    function test_RequestRefusesTheKeyThatAnOrganizationLeftWithOnceItCameBack() public {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        bytes memory signature = _signed(_secret(_ASKING), _digest(wanted));
        _departed(_ASKING);
        VM.roll(102);
        _executed(_admission(_ASKING, 1, _K));
        VM.expectRevert(_wrongSigner(_ASKING, _key(_ASKING), _key(_ASKING, 1)));
        _unlearning.request(wanted, signature);
    }

    /// @dev There is no key to compare with, and a malformed signature has no signer.
    function test_RequestRefusesAnOrganizationThatNeverWasAMember() public {
        Unlearning.Request memory wanted = _wanted(7);
        bytes memory signature = _signed(_secret(7), _digest(wanted));
        bytes memory noKey =
            abi.encodeWithSelector(Unlearning.UnlearningNoKey.selector, wanted.organization);
        VM.expectRevert(noKey);
        _unlearning.request(wanted, signature);
        VM.expectRevert(noKey);
        _unlearning.request(wanted, new bytes(65));
        VM.expectRevert(noKey);
        _unlearning.request(wanted, "");
    }

    function test_CancelRefusesAnybodyElsesSignature() public {
        bytes32 id = _requested();
        for (uint256 i = 0; i < 3; ++i) {
            bytes memory signature = _signed(_secret(i), _cancelDigest(id));
            _refusedCancellation(id, signature, _key(i));
        }
    }

    function test_CancelRefusesTheCoordinatorAndTheRequesterWithoutASignature() public {
        bytes32 id = _requested();
        address[2] memory callers = [_COORDINATOR, _key(_ASKING)];
        for (uint256 i = 0; i < 2; ++i) {
            VM.expectRevert(_wrongSigner(_ASKING, address(0), _key(_ASKING)));
            VM.prank(callers[i]);
            _unlearning.cancel(id, "");
        }
    }

    function test_CancelRefusesTheRequestsOwnSignature() public {
        bytes32 id = _requested();
        _misusedCancellation(id, _signed(_secret(_ASKING), _digest(_wanted(_ASKING))));
    }

    function test_CancelRefusesASignatureForAnotherRequest() public {
        bytes32 id = _requested();
        Unlearning.Request memory other = _wanted(_ASKING);
        other.subject = keccak256("another subject");
        other.id = _id(other);
        _requested(other);
        bytes memory signature = _signed(_secret(_ASKING), _cancelDigest(other.id));
        _misusedCancellation(id, signature);
        _unlearning.cancel(other.id, signature);
        _misusedCancellation(id, signature);
    }

    function test_CancelRefusesASignatureForAnotherContract() public {
        bytes32 id = _requested();
        bytes32 foreign = _typed(
            _cancelHash(id), "Foedus Unlearning", "1", block.chainid, address(_registry)
        );
        _misusedCancellation(id, _signed(_secret(_ASKING), foreign));
    }

    function test_CancelRefusesASignatureForAnotherChain() public {
        bytes32 id = _requested();
        bytes memory signature = _signed(_secret(_ASKING), _cancelDigest(id));
        VM.chainId(block.chainid + 1);
        _misusedCancellation(id, signature);
    }

    function test_CancelRefusesTheSecondFormOfASignature() public {
        bytes32 id = _requested();
        bytes memory signature = _signed(_secret(_ASKING), _cancelDigest(id));
        _refusedCancellation(id, _highS(signature), address(0));
    }

    function test_CancelRefusesSignaturesOfAnotherLength() public {
        bytes32 id = _requested();
        bytes memory good = _signed(_secret(_ASKING), _cancelDigest(id));
        _refusedCancellation(id, "", address(0));
        _refusedCancellation(id, new bytes(64), address(0));
        _refusedCancellation(id, abi.encodePacked(good, uint8(0)), address(0));
    }

    function test_CancelRefusesAKeyBeforeItsRotation() public {
        bytes32 id = _requested();
        bytes memory signature = _signed(_secret(_ASKING), _cancelDigest(id));
        _rotated(_ASKING, 0);
        VM.expectRevert(_wrongSigner(_ASKING, _key(_ASKING), _key(_ASKING, 1)));
        _unlearning.cancel(id, signature);
        _unlearning.cancel(id, _signed(_secret(_ASKING, 1), _cancelDigest(id)));
        assert(_unlearning.stateOf(id) == Unlearning.State.Cancelled);
    }

    /// @dev Blocks are the registry's finest grain: of a key that came and went within one there
    /// may be no trace, and then nobody can cancel, rather than anybody.
    function test_NobodyCancelsForAnOrganizationThatCameAndWentWithinABlock() public {
        _executed(_admission(4, 0, _K));
        bytes32 id = _requested(_wanted(4));
        _executed(_removal(4, _K));
        bytes[2] memory malformed = [bytes(""), new bytes(65)];
        for (uint256 i = 0; i < 2; ++i) {
            try _unlearning.cancel(id, malformed[i]) {
                assert(false);
            } catch {
                assert(_unlearning.stateOf(id) == Unlearning.State.Open);
            }
        }
    }

    function testFuzz_ACancellationIsSignedByItsDefinition(bytes32 id) public view {
        assert(_unlearning.cancellationDigest(id) == _cancelDigest(id));
    }

    function testFuzz_NothingButTheOwnSignatureAsksOrCancels(bytes memory bytes_, uint8 signer)
        public
    {
        Unlearning.Request memory wanted = _wanted(_ASKING);
        _neither(wanted, bytes_, bytes_);
        if (signer % 4 == _ASKING) return;
        bytes memory signature = _signed(_secret(signer % 4), _digest(wanted));
        _neither(wanted, signature, _signed(_secret(signer % 4), _cancelDigest(wanted.id)));
    }

    function _neither(
        Unlearning.Request memory wanted,
        bytes memory asking,
        bytes memory cancelling
    ) private {
        Unlearning.State state = _unlearning.stateOf(wanted.id);
        try _unlearning.request(wanted, asking) {
            assert(false);
        } catch {}
        assert(_unlearning.stateOf(wanted.id) == state);
        if (state == Unlearning.State.None) _requested(wanted);
        try _unlearning.cancel(wanted.id, cancelling) {
            assert(false);
        } catch {}
        assert(_unlearning.stateOf(wanted.id) == Unlearning.State.Open);
    }

    function _refusedRequest(
        Unlearning.Request memory wanted,
        bytes memory signature,
        address signer
    ) private {
        VM.expectRevert(_wrongSigner(_ASKING, signer, _key(_ASKING)));
        _unlearning.request(wanted, signature);
        assert(_unlearning.stateOf(wanted.id) == Unlearning.State.None);
    }

    function _misusedRequest(Unlearning.Request memory wanted, bytes memory signature) private {
        address seen = _signerOf(_digest(wanted), signature);
        assert(seen != _key(_ASKING));
        _refusedRequest(wanted, signature, seen);
    }

    function _refusedCancellation(bytes32 id, bytes memory signature, address signer) private {
        VM.expectRevert(_wrongSigner(_ASKING, signer, _key(_ASKING)));
        _unlearning.cancel(id, signature);
        assert(_unlearning.stateOf(id) == Unlearning.State.Open);
    }

    function _misusedCancellation(bytes32 id, bytes memory signature) private {
        address seen = _signerOf(_cancelDigest(id), signature);
        assert(seen != _key(_ASKING));
        _refusedCancellation(id, signature, seen);
    }

    function _wrongSigner(uint256 number, address signer, address key)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(
            Unlearning.UnlearningWrongSigner.selector, _org(number), signer, key
        );
    }
}
