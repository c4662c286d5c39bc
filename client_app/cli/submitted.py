"""A run that a command submits on this machine, and waits for."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from client_app.cli.output import progress_console

if TYPE_CHECKING:
    from strategies.settings import RunSettings


def submitted(
    settings: "RunSettings", config: Mapping[str, object], refresh: Callable[[], bool]
) -> str:
    """Carry out a run under the home of another one, by a SuperLink of its own.

    Parameters
    ----------
    settings : RunSettings
        Those of the run that it is about.
    config : mapping
        What the run is to do, by setting.
    refresh : callable
        As `LocalSuperLink.wait` takes it.

    Returns
    -------
    str
        Why it failed, with the log's path; empty where it did not.
    """
    from client_app.cli.app_bundle import stage_app
    from client_app.cli.local_superlink import last_error, local_superlink

    with local_superlink(settings.home_path / "flwr") as superlink:
        # While the SuperLink starts.
        from client_app.cli.preparation import prepare

        prepare(settings, progress_console)
        app = stage_app(settings.home_path / "flwr" / "app")
        nodes: dict[str, object] = {"num-supernodes": len(settings.organization_names)}
        run_id = superlink.submit(app, {**config, "home": str(settings.home_path)}, nodes)
        status = superlink.wait(run_id, refresh)
    if status == "finished:completed":
        return ""
    return f"{last_error(superlink.log) or f'Flower says {status}'} (log: {superlink.log})"
