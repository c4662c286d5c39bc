"""The public chain: canonical hashes, Merkle tree, client, deployment and managed node.

Start at :mod:`blockchain.public_chain`. What is hashed, and how, stands in
:mod:`blockchain.canonical` and :mod:`blockchain.merkle`; what organizations sign, in
:mod:`blockchain.model_update`; the chain on this machine, in :mod:`blockchain.managed_node`.
What an organization keeps for itself is :mod:`blockchain.private`. The contracts lie in
``hardhat/``, and ``abi/`` holds what they compile to.
"""
