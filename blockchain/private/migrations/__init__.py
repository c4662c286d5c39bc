"""How the ledger's files came to be as :mod:`blockchain.private.schema` says, step by step."""
