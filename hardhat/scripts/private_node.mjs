// A development chain without a door: questions come one a line on standard input, answers leave on
// standard output, and no port is opened. Its only user is the gateway that started it
// (blockchain/chain_gateway.py); when that ends, so does this.
//
//   node scripts/private_node.mjs 2026-01-01T00:00:00Z

import { createInterface } from "node:readline";

import { network } from "hardhat";

const [, , initialDate] = process.argv;
const { provider } = await network.create({ network: "default", override: { initialDate } });

for await (const line of createInterface({ input: process.stdin })) {
  const { method, params } = JSON.parse(line);
  let answer;
  try {
    answer = { result: await provider.request({ method, params }) };
  } catch (error) {
    const { code = -32603, message, data } = error;
    answer = { error: { code, message, data } };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit();
