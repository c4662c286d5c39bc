"""A run that trains, and carries out requests to forget between its rounds."""

from flwr.serverapp import Grid

from server_app.coordinator import coordinate
from server_app.replay_settings import changed
from server_app.unlearning import standing_runs, unlearn
from strategies.run_folder import run_folder
from strategies.settings import RunSettings


def train(settings: RunSettings, grid: Grid) -> None:
    """Train to the end; where requests come in between, the run that replaces this one does.

    A run stops for a request once. One that could not be carried out then stays open for a run
    that unlearns.
    """
    name, tried = run_folder(settings).name, set[bytes]()
    settings = changed(settings, {"run-name": name})
    while stopped_for := coordinate(settings, grid, ignored=tried):
        tried |= stopped_for
        unlearn(settings, grid)
        if name not in {archive.name for archive in standing_runs(settings.home_path)}:
            # Its rounds were made again, and those that it still had to come as well.
            return
        settings = changed(settings, {"resume": True})
