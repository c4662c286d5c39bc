"""The participation agent: whether an organization joins a round, and with how much effort.

Tabular double Q-learning over 54 situations and four actions. Start at :mod:`.double_q`, the
arithmetic; :mod:`.situation` says what an agent sees, :mod:`.action_space` what it can do,
:mod:`.agent_file` how it is kept, :mod:`.own_agent` how it works beside the private ledger.

Nothing in here loads torch: declining a round is cheap.
"""
