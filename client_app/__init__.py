"""The organization's Flower ClientApp and the ``foedus`` command.

Start at :mod:`client_app.app` for what an organization does in a round, and at
:mod:`client_app.cli` for the command.
"""
