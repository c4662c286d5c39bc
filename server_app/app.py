"""The ServerApp: one function that Flower calls with the run's configuration."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server_app.replay_check import replay
from server_app.training import train
from server_app.unlearning import unlearn
from strategies.settings import RunSettings, SettingsError

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Check the settings, then do what the mode says; an exception ends the run as failed."""
    settings = RunSettings.from_run_config(context.run_config)
    if settings.bundle and settings.bundle != grid.run.fab_hash:
        raise SettingsError(
            f"bundle: {settings.bundle}: this application has SHA-256 {grid.run.fab_hash}"
        )
    match settings.mode:
        case "train":
            train(settings, grid)
        case "unlearn":
            unlearn(settings, grid)
        case "replay":
            replay(settings, grid)
