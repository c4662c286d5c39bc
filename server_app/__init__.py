"""The coordinator's Flower ServerApp. Start at :mod:`server_app.app`."""
