// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Anchors} from "../contracts/Anchors.sol";
import {IRegistry} from "../contracts/IRegistry.sol";
import {AnchorsBase} from "./AnchorsBase.sol";
import {VM} from "./Cheats.sol";
import {TransparencyLog} from "./TransparencyLog.sol";

/// @dev What is anchored and what is refused: every revert is named here.
contract AnchorsTest is AnchorsBase {
    using TransparencyLog for bytes32[];

    bytes32[] private _leaves;
    bytes32[] private _forked;
    bytes32[] private _noProof;

    bytes32 private constant _SHOP = keccak256("shop");
    uint256 private constant _NEW_KEY = 0xB0B;

    function setUp() public override {
        super.setUp();
        _leaves = TransparencyLog.make("log", 20);
        _forked = TransparencyLog.make("log", 20);
        _forked[2] = TransparencyLog.leafHash("another entry");
    }

    function test_AnchorRecordsSizeRootAndBlock() public {
        VM.roll(41);
        _expectAnchored(_cinema(_KEY, _leaves, 0, 3), 0);
        _assertLast(3, _leaves.root(3), 41);
        VM.roll(43);
        _expectAnchored(_cinema(_KEY, _leaves, 3, 8), 3);
        _assertLast(8, _leaves.root(8), 43);
    }

    function test_NothingIsAnchoredAtFirst() public view {
        _assertLast(0, 0, 0);
        assert(address(_anchors.REGISTRY()) == address(_registry));
    }

    function test_AnyoneMayBringASignedAnchor() public {
        Signed memory first = _cinema(_KEY, _leaves, 0, 3);
        VM.prank(address(0xBEEF));
        _bring(first);
        _assertLast(3, _leaves.root(3), block.number);
    }

    function test_EachOrganizationHasItsOwnAnchors() public {
        _registry.setKey(_SHOP, VM.addr(_NEW_KEY));
        _anchor(_KEY, _leaves, 0, 5);
        _bring(_signed(_NEW_KEY, _SHOP, 2, _forked.root(2), _noProof));
        assert(_anchors.anchorOf(_SHOP).size == 2);
        _assertLast(5, _leaves.root(5), block.number);
    }

    function test_TheSignedHashIsTheOneOfEIP712() public view {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,"
                    "uint256 chainId,address verifyingContract)"
                ),
                keccak256("Foedus Anchors"),
                keccak256("1"),
                block.chainid,
                address(_anchors)
            )
        );
        bytes32 message = keccak256(
            abi.encode(
                keccak256("Anchor(bytes32 organization,uint64 size,bytes32 root,uint256 deadline)"),
                _CINEMA,
                uint64(7),
                bytes32("root"),
                uint256(9)
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, message));
        assert(_anchors.hashOf(_CINEMA, 7, "root", 9) == digest);
    }

    function test_ARegistryThatIsNoContractIsRefused() public {
        VM.expectRevert(abi.encodeWithSelector(Anchors.AnchorsNoRegistry.selector, address(1)));
        new Anchors(IRegistry(address(1)));
    }

    function test_AZeroRootIsRefused() public {
        _refuse(
            abi.encodeWithSelector(Anchors.AnchorsZeroRoot.selector, _CINEMA, 3),
            _signed(_KEY, _CINEMA, 3, 0, _noProof)
        );
    }

    function test_ASignatureIsGoodUntilItsDeadline() public {
        Signed memory first = _cinema(_KEY, _leaves, 0, 3);
        VM.warp(_DEADLINE + 1);
        _refuse(
            abi.encodeWithSelector(Anchors.AnchorsExpired.selector, _DEADLINE, _DEADLINE + 1),
            first
        );
        VM.warp(_DEADLINE);
        _bring(first);
        _assertLast(3, _leaves.root(3), block.number);
    }

    function test_TheFirstAnchorNeedsAnEntry() public {
        _refuse(_notGrowing(0, 0), _cinema(_KEY, _leaves, 0, 0));
        _anchor(_KEY, _leaves, 0, 1);
        _assertLast(1, _leaves[0], block.number);
    }

    function test_TheFirstAnchorTakesNoProof() public {
        Signed memory first = _cinema(_KEY, _leaves, 1, 3);
        assert(first.proof.length == 2);
        _refuse(
            abi.encodeWithSelector(Anchors.AnchorsUnexpectedProof.selector, _CINEMA, 2), first
        );
    }

    function test_ASignatureCannotBeUsedAgain() public {
        Signed memory first = _cinema(_KEY, _leaves, 0, 3);
        _bring(first);
        _refuse(_notGrowing(3, 3), first);
        _anchor(_KEY, _leaves, 3, 5);
        _refuse(_notGrowing(3, 5), first);
    }

    function test_ARollbackIsRefused() public {
        _anchor(_KEY, _leaves, 0, 5);
        _refuse(_notGrowing(4, 5), _cinema(_KEY, _leaves, 0, 4));
        _refuse(_notGrowing(5, 5), _cinema(_KEY, _forked, 0, 5));
    }

    function test_AForkIsRefusedWithEveryProof() public {
        _anchor(_KEY, _leaves, 0, 5);
        Signed memory fork = _cinema(_KEY, _forked, 5, 8);
        _refuse(_inconsistent(fork, 5), fork);
        fork.proof = _leaves.proof(5, 8);
        _refuse(_inconsistent(fork, 5), fork);
        fork.proof = new bytes32[](0);
        _refuse(_inconsistent(fork, 5), fork);
        fork.proof = new bytes32[](65);
        _refuse(_inconsistent(fork, 5), fork);
        _assertLast(5, _leaves.root(5), block.number);
    }

    function test_AProofFromAnotherAnchorIsRefused() public {
        _anchor(_KEY, _leaves, 0, 3);
        _anchor(_KEY, _leaves, 3, 5);
        Signed memory next = _cinema(_KEY, _leaves, 3, 8);
        _refuse(_inconsistent(next, 5), next);
    }

    function test_ANewKeyGoesOnWithTheSameLedger() public {
        _anchor(_KEY, _leaves, 0, 5);
        _registry.setKey(_CINEMA, VM.addr(_NEW_KEY));
        _refuse(_notGrowing(1, 5), _cinema(_NEW_KEY, _forked, 0, 1));
        Signed memory fork = _cinema(_NEW_KEY, _forked, 5, 8);
        _refuse(_inconsistent(fork, 5), fork);
        _anchor(_NEW_KEY, _leaves, 5, 8);
        _assertLast(8, _leaves.root(8), block.number);
    }

    function test_AnOldKeySignsNothing() public {
        Signed memory first = _cinema(_KEY, _leaves, 0, 3);
        _registry.setKey(_CINEMA, VM.addr(_NEW_KEY));
        _refuse(_wrongSigner(VM.addr(_KEY), VM.addr(_NEW_KEY)), first);
    }

    function test_AnOrganizationWithoutAKeyAnchorsNothing() public {
        bytes memory noKey = abi.encodeWithSelector(Anchors.AnchorsNoKey.selector, _SHOP);
        Signed memory first = _signed(_KEY, _SHOP, 3, _leaves.root(3), _noProof);
        _refuse(noKey, first);
        // A malformed signature has signer zero, which must not pass for the missing key.
        first.signature = "";
        _refuse(noKey, first);
    }

    function test_AForgedSignatureIsRefused() public {
        _refuse(
            _wrongSigner(VM.addr(_NEW_KEY), VM.addr(_KEY)), _cinema(_NEW_KEY, _leaves, 0, 3)
        );
    }

    function test_ASignatureForAnythingElseIsRefused() public {
        bytes32 root = _leaves.root(3);
        _refuseSignatureOver(_anchors.hashOf(_SHOP, 3, root, _DEADLINE));
        _refuseSignatureOver(_anchors.hashOf(_CINEMA, 4, root, _DEADLINE));
        _refuseSignatureOver(_anchors.hashOf(_CINEMA, 3, _leaves.root(4), _DEADLINE));
        _refuseSignatureOver(_anchors.hashOf(_CINEMA, 3, root, _DEADLINE + 1));
    }

    function test_ASignatureForAnotherContractIsRefused() public {
        Anchors other = new Anchors(IRegistry(address(_registry)));
        _refuseSignatureOver(other.hashOf(_CINEMA, 3, _leaves.root(3), _DEADLINE));
    }

    function test_ASignatureForAnotherChainIsRefused() public {
        bytes32 digest = _anchors.hashOf(_CINEMA, 3, _leaves.root(3), _DEADLINE);
        VM.chainId(block.chainid + 1);
        _refuseSignatureOver(digest);
        _anchor(_KEY, _leaves, 0, 3);
    }

    function test_AnyOtherFormOfASignatureIsRefused() public {
        bytes32 digest = _anchors.hashOf(_CINEMA, 3, _leaves.root(3), _DEADLINE);
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(_KEY, digest);
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        uint8 otherV = v == 27 ? 28 : 27;
        bytes32 highS = bytes32(order - uint256(s));
        assert(ecrecover(digest, otherV, r, highS) == VM.addr(_KEY));
        _refuseMalformed(abi.encodePacked(r, highS, otherV));
        _refuseMalformed(abi.encodePacked(r, bytes32(uint256(s) | (uint256(v) - 27) << 255)));
        _refuseMalformed(abi.encodePacked(r, s, v, v));
        _refuseMalformed(abi.encodePacked(r, s, v - 27));
        _refuseMalformed("");
        _anchor(_KEY, _leaves, 0, 3);
    }

    /// @dev Each step is an anchor of any size of the true or the forked ledger, with the right key
    /// or not, proven from any size, and before it the key may change: anchors only ever grow, and
    /// never leave the ledger that the first one began.
    function testFuzz_AnchorsOnlyGrowWhateverTheKeys(uint256[16] calldata steps) public {
        _anchor(_KEY, _leaves, 0, 3);
        uint256 key = _KEY;
        for (uint256 i = 0; i < steps.length; ++i) {
            uint256 step = steps[i];
            if (step & 1 == 1) {
                key = key % 1000 + 1;
                _registry.setKey(_CINEMA, VM.addr(key));
            }
            uint64 last = _anchors.anchorOf(_CINEMA).size;
            uint64 size = uint64(step >> 8) % 20 + 1;
            uint64 oldSize = step & 2 == 2 ? last : uint64(step >> 16) % 21;
            if (oldSize > size) oldSize = size;
            bool honest = step & 4 == 4;
            bool signed = step & 24 != 24;
            try this.anchorAs(signed ? key : 7_000, honest, oldSize, size) {
                assert(size > last && honest && signed);
                _assertLast(size, _leaves.root(size), block.number);
            } catch {
                assert(size <= last || !honest || !signed || oldSize != last);
                _assertLast(last, _leaves.root(last), block.number);
            }
        }
    }

    /// @dev One step of the test above, external so that its revert can be caught.
    function anchorAs(uint256 key, bool honest, uint64 oldSize, uint64 size) external {
        _anchor(key, honest ? _leaves : _forked, oldSize, size);
    }

    /// @dev Signs another hash, and presents it as the signature of the first 3 leaves.
    function _refuseSignatureOver(bytes32 digest) private {
        Signed memory first = _cinema(_KEY, _leaves, 0, 3);
        bytes32 expected = _anchors.hashOf(_CINEMA, 3, first.root, _DEADLINE);
        assert(digest != expected);
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(_KEY, digest);
        first.signature = abi.encodePacked(r, s, v);
        _refuse(_wrongSigner(ecrecover(expected, v, r, s), VM.addr(_KEY)), first);
    }

    function _refuseMalformed(bytes memory signature) private {
        Signed memory first = _cinema(_KEY, _leaves, 0, 3);
        first.signature = signature;
        _refuse(_wrongSigner(address(0), VM.addr(_KEY)), first);
    }

    function _expectAnchored(Signed memory s, uint64 previousSize) private {
        VM.expectEmit();
        emit Anchors.Anchored(_CINEMA, s.size, s.root, previousSize);
        _bring(s);
    }

    function _assertLast(uint64 size, bytes32 root, uint256 anchoredBlock) private view {
        Anchors.Anchor memory last = _anchors.anchorOf(_CINEMA);
        assert(last.size == size && last.root == root && last.anchoredBlock == anchoredBlock);
    }

    function _notGrowing(uint64 size, uint64 anchored) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(Anchors.AnchorsNotGrowing.selector, _CINEMA, size, anchored);
    }

    function _wrongSigner(address signer, address key) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(Anchors.AnchorsWrongSigner.selector, _CINEMA, signer, key);
    }

    /// @dev The refusal of what does not begin with the first `anchored` leaves.
    function _inconsistent(Signed memory s, uint64 anchored) private view returns (bytes memory) {
        return abi.encodeWithSelector(
            Anchors.AnchorsInconsistent.selector,
            _CINEMA,
            s.size,
            s.root,
            anchored,
            _leaves.root(anchored)
        );
    }
}
