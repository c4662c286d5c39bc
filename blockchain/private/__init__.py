"""The private, permissioned ledger of one organization, on SQLite.

Start at :mod:`.ledger`. What a record can be stands in :mod:`.record_types`, its bytes in
:mod:`.encoding`, when a block is valid in :mod:`.history`, who may do what in :mod:`.policy`, who
can read what in :mod:`.sealing`. Whether a ledger holds is for :mod:`.audit` to say.
"""
