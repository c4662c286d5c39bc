"""Forgetting: records or a whole organization taken out of what was learned together.

Start at :mod:`unlearning.forgetting` for how an organization unlearns records by training, with
one of :mod:`unlearning.methods`.
"""
