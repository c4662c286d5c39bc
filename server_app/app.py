"""The ServerApp: one function that Flower calls with the run's configuration."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server_app.coordinator import coordinate
from strategies.settings import RunSettings

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Check the settings, then coordinate the run; an exception ends the run as failed."""
    coordinate(RunSettings.from_run_config(context.run_config), grid)
