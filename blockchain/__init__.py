"""The public chain: canonical hashes, Merkle tree, client, deployment and managed node.

Start at :mod:`blockchain.public_chain`. What is hashed, and how, stands in
:mod:`blockchain.canonical` and :mod:`blockchain.merkle`; the contracts lie in ``hardhat/``, and
``abi/`` holds what they compile to.
"""
