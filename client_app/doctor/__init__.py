"""What ``foedus doctor`` looks at: whether a machine has what a deployment needs, and if not, why.

Each check is one function that is given the :class:`~client_app.doctor.machine.Machine` and returns
a :class:`~client_app.doctor.check.Finding`. Which there are, in which order, and what to do where
one fails stands in :mod:`client_app.doctor.registry`; :mod:`client_app.doctor.examination` goes
through them. Nothing is changed, made, fetched or decrypted.
"""
