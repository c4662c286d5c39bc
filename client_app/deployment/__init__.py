"""A federation on separate machines: what each of them needs, and the processes that run there.

:mod:`~client_app.deployment.certificates` makes what organizations know the coordinator by.
"""
