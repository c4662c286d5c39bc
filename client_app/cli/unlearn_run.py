"""Have open requests to forget carried out on this machine: ``foedus unlearn --submit``."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from client_app.cli.output import fail, progress_console

if TYPE_CHECKING:
    from client_app.cli.local_superlink import LocalSuperLink
    from strategies.settings import RunSettings

_POLL_SECONDS = 0.5


def submit_unlearning(settings: "RunSettings") -> None:
    """Submit a run that unlearns, and show its progress until it has ended.

    Parameters
    ----------
    settings : RunSettings
        Those of the run that the requests are about; they name its home.
    """
    from client_app.cli.app_bundle import stage_app
    from client_app.cli.local_superlink import local_superlink

    with local_superlink(settings.home_path / "flwr") as superlink:
        # While the SuperLink starts.
        from client_app.cli.preparation import prepare

        prepare(settings, progress_console)
        app = stage_app(settings.home_path / "flwr" / "app")
        config: dict[str, Any] = {"mode": "unlearn", "home": str(settings.home_path)}
        nodes: dict[str, object] = {"num-supernodes": len(settings.organization_names)}
        run_id = superlink.submit(app, config, nodes)
        status = _wait(superlink, run_id, settings)
    if status != "finished:completed":
        from client_app.cli.run import last_error

        reason = last_error(superlink.log) or f"Flower says {status}"
        fail(f"the run that unlearns failed: {reason} (log: {superlink.log})")


def _wait(superlink: "LocalSuperLink", run_id: int, settings: "RunSettings") -> str:
    """Show the rounds that are made again until the run has ended; return Flower's word for how."""
    from client_app.cli.local_superlink import SuperLinkError
    from client_app.cli.run_display import RunDisplay
    from strategies.run_archive import RunArchive, newest_run

    asked, shown, display = time.monotonic(), "", None
    before = newest_run(settings.home_path)
    with ExitStack() as stack:
        while True:
            newest = newest_run(settings.home_path)
            if (
                newest is not None
                and before is not None
                and newest.name not in (before.name, shown)
            ):
                shown = newest.name
                there = RunArchive(newest.folder).read_settings()
                of_run = type(settings).from_run_config(there)
                display = stack.enter_context(RunDisplay(of_run, newest.folder, progress_console))
            if display is not None:
                display.refresh()
            time.sleep(_POLL_SECONDS)
            if superlink.process.poll() is not None:
                raise SuperLinkError(f"the SuperLink stopped during the run, see {superlink.log}")
            # Asking Flower starts a process.
            if time.monotonic() - asked > (5.0 if display is None or display.ended else 15.0):
                status = superlink.status(run_id)
                if status.startswith("finished"):
                    return status
                asked = time.monotonic()
