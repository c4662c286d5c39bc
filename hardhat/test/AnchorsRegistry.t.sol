// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Anchors} from "../contracts/Anchors.sol";
import {VM} from "./Cheats.sol";
import {RegistryFixture} from "./RegistryFixture.sol";
import {TransparencyLog} from "./TransparencyLog.sol";

/// @dev Anchors under the keys of the real registry, as they come and go.
contract AnchorsRegistryTest is RegistryFixture {
    using TransparencyLog for bytes32[];

    Anchors private _anchors;
    bytes32[] private _ledger;

    function setUp() public override {
        super.setUp();
        _anchors = new Anchors(_registry);
        for (uint256 i = 0; i < 12; ++i) _ledger.push(keccak256(abi.encode("entry", i)));
    }

    function test_ALedgerGoesOnAcrossARotationAndOnlyWithTheNewKey() public {
        _anchor(_secret(3, 0), 0, 5);
        _rotated(3, 0);
        _refuse(
            abi.encodeWithSelector(
                Anchors.AnchorsWrongSigner.selector, _org(3), _key(3, 0), _key(3, 1)
            ),
            _secret(3, 0),
            5,
            7
        );
        _anchor(_secret(3, 1), 5, 7);
        _anchor(_secret(3, 1), 7, 12);
        assert(_anchors.anchorOf(_org(3)).root == _ledger.root(12));
    }

    function test_ARotationAllowsNoOtherLedger() public {
        _anchor(_secret(3, 0), 0, 5);
        _rotated(3, 0);
        bytes32 anchored = _ledger.root(5);
        _ledger[2] = keccak256("rewritten");
        _refuse(
            abi.encodeWithSelector(
                Anchors.AnchorsInconsistent.selector, _org(3), 7, _ledger.root(7), 5, anchored
            ),
            _secret(3, 1),
            5,
            7
        );
    }

    function test_AnOrganizationThatLeftAnchorsNothingAndItsLastAnchorStays() public {
        _anchor(_secret(3), 0, 5);
        _executed(_removal(3, 3));
        _refuse(
            abi.encodeWithSelector(Anchors.AnchorsNoKey.selector, _org(3)), _secret(3), 5, 7
        );
        assert(_anchors.anchorOf(_org(3)).size == 5);
    }

    function test_AnOrganizationAdmittedAgainGoesOnWhereItLeft() public {
        _anchor(_secret(3), 0, 5);
        _executed(_removal(3, 3));
        VM.roll(200);
        _executed(_admission(3, 1, 3));
        _refuse(
            abi.encodeWithSelector(Anchors.AnchorsNotGrowing.selector, _org(3), 1, 5),
            _secret(3, 1),
            0,
            1
        );
        _anchor(_secret(3, 1), 5, 7);
    }

    function _anchor(uint256 secret, uint64 oldSize, uint64 size) private {
        (bytes32 root, bytes memory signature, bytes32[] memory proof) =
            _made(secret, oldSize, size);
        _anchors.anchor(_org(3), size, root, _DEADLINE, signature, proof);
    }

    /// @dev An anchor that must be refused in these words. All is made before the next call, which
    /// is the one that must fail: SHA-256 is a call as well.
    function _refuse(bytes memory reason, uint256 secret, uint64 oldSize, uint64 size) private {
        (bytes32 root, bytes memory signature, bytes32[] memory proof) =
            _made(secret, oldSize, size);
        VM.expectRevert(reason);
        _anchors.anchor(_org(3), size, root, _DEADLINE, signature, proof);
    }

    function _made(uint256 secret, uint64 oldSize, uint64 size)
        private
        view
        returns (bytes32 root, bytes memory signature, bytes32[] memory proof)
    {
        root = _ledger.root(size);
        signature = _signed(secret, _anchors.hashOf(_org(3), size, root, _DEADLINE));
        if (oldSize != 0) proof = _ledger.proof(oldSize, size);
    }
}
