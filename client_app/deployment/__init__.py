"""A federation on separate machines: what each of them needs, and the processes that run there.

:mod:`~client_app.deployment.certificates` and :mod:`~client_app.deployment.node_key` make what
coordinator and organizations know each other by.
"""
