// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AnchorsBase} from "./AnchorsBase.sol";
import {TransparencyLog} from "./TransparencyLog.sol";

/// @dev What an anchor costs, the tests' own call included. Each is a whole transaction under
/// `--gas-stats`, and less without its fixed costs.
contract AnchorsGasTest is AnchorsBase {
    using TransparencyLog for bytes32[];

    function test_TheFirstAnchorCostsLessThan90000() public {
        assert(_gasOf(0, 1) < 90_000);
    }

    function test_AnAnchorFrom1To2CostsLessThan70000() public {
        _anchor(_KEY, TransparencyLog.make("log", 1), 0, 1);
        assert(_gasOf(1, 2) < 70_000);
    }

    function test_AnAnchorFrom100To101CostsLessThan70000() public {
        _anchor(_KEY, TransparencyLog.make("log", 100), 0, 100);
        assert(_gasOf(100, 101) < 70_000);
    }

    function test_AnAnchorFrom1000To1100CostsLessThan70000() public {
        _anchor(_KEY, TransparencyLog.make("log", 1000), 0, 1000);
        assert(_gasOf(1000, 1100) < 70_000);
    }

    function _gasOf(uint64 oldSize, uint64 size) private returns (uint256) {
        Signed memory next = _cinema(_KEY, TransparencyLog.make("log", size), oldSize, size);
        bytes memory call = abi.encodeCall(
            _anchors.anchor,
            (next.organization, next.size, next.root, next.deadline, next.signature, next.proof)
        );
        uint256 before = gasleft();
        (bool anchored,) = address(_anchors).call(call);
        uint256 used = before - gasleft();
        assert(anchored);
        return used;
    }
}
