// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LeafHash} from "../contracts/LeafHash.sol";
import {VM} from "./Cheats.sol";

/// @dev The library as a contract, so that proofs come to it as calldata.
contract InclusionVerifier {
    function verify(
        bytes32 root,
        bytes32 digest,
        uint32 index,
        uint16 verdict,
        bytes32[] calldata proof
    ) external pure returns (bool) {
        return LeafHash.verify(root, LeafHash.hash(digest, index, verdict), proof);
    }
}

/// @dev The inclusion proofs that the Python tests check too, valid ones and corrupted ones.
contract InclusionVectorsTest {
    /// @dev In the order of the JSON's keys.
    struct Case {
        bytes32 digest;
        uint256 index;
        string name;
        bytes32[] proof;
        bytes32 root;
        bool valid;
        uint256 verdict;
    }

    string private constant _VECTORS = "test/vectors/inclusion.json";

    InclusionVerifier private immutable _verifier = new InclusionVerifier();

    function test_EachVectorVerifiesExactlyIfItIsValid() public view {
        Case[] memory cases =
            abi.decode(VM.parseJson(VM.readFile(_VECTORS), ".cases"), (Case[]));
        uint256 valid = 0;
        for (uint256 i = 0; i < cases.length; ++i) {
            Case memory c = cases[i];
            bool verified =
                _verifier.verify(c.root, c.digest, uint32(c.index), uint16(c.verdict), c.proof);
            require(verified == c.valid, c.name);
            if (c.valid) ++valid;
        }
        assert(valid == 9 && cases.length > 250);
    }
}
