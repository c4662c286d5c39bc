"""The public chain: canonical hashes, Merkle tree, client and managed node.

Start at :mod:`blockchain.public_chain`.
"""
