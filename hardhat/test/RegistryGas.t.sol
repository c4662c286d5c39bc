// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Registry} from "../contracts/Registry.sol";
import {RegistryFixture} from "./RegistryFixture.sol";

/// @dev What the registry costs. The bounds are for the calls alone; under `--gas-stats` each is
/// a whole transaction and pays for its start and its data too.
contract RegistryGasTest is RegistryFixture {
    function test_AdmittingAMemberByThreeOfFour() public {
        Registry.Change memory change = _admission(4, 0, _K);
        Registry.Approval[] memory approvals = _approvals(_digest(change), _K);
        uint256 before = gasleft();
        _registry.execute(change, approvals);
        assert(before - gasleft() < 260_000);
    }

    function test_RotatingAKey() public {
        address newKey = _key(0, 1);
        bytes32 digest = _rotationDigest(0, newKey, 0);
        bytes memory old = _signed(_secret(0), digest);
        bytes memory possession = _signed(_secret(0, 1), digest);
        uint256 before = gasleft();
        _registry.rotateKey(_org(0), newKey, _DEADLINE, old, possession);
        assert(before - gasleft() < 100_000);
    }
}
