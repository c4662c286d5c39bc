import { createRequire } from "node:module";

import { defineConfig } from "hardhat/config";

// The compiler is the npm package's own, named by its absolute path: nothing is downloaded,
// so the contracts build without a network and from exactly the locked version.
const soljson = createRequire(import.meta.url).resolve("solc/soljson.js");

export default defineConfig({
  solidity: {
    version: "0.8.37",
    path: soljson,
    settings: {
      evmVersion: "cancun",
      optimizer: { enabled: true, runs: 10_000 },
      // The bytecode must not depend on where the sources lie or on a comment in them.
      metadata: { bytecodeHash: "none" },
    },
  },
  // The Solidity tests read the vectors that the Python tests read too.
  test: {
    solidity: {
      fsPermissions: { readDirectory: ["test/vectors"] },
      // So many sequences of so many random calls for each invariant.
      invariant: { runs: 10, depth: 200 },
    },
  },
});
