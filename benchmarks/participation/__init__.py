"""Participation agents, in an environment calibrated on real federated runs.

Start at :mod:`.environment`, the game; :mod:`.federation` says what is in it, :mod:`.response` how
loss follows from effort, :mod:`.scoring` what a round scores. :mod:`.calibrate` fits it to logs,
:mod:`.policies` play it, :mod:`.optimum` and :mod:`.equilibrium` are what they are held against,
:mod:`.study` compares, :mod:`.learn_tables` makes the tables that an agent starts from.
"""
