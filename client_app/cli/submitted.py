"""A run that a command submits on this machine, and waits for."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from client_app.cli.output import progress_console

if TYPE_CHECKING:
    from strategies.settings import RunSettings


def submitted(
    settings: "RunSettings", config: Mapping[str, object], refresh: Callable[[], bool]
) -> str:
    """Carry out a run under the home of another one.

    By a SuperLink of its own, or on separate machines by the one that runs there.

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
    from client_app.cli.app_bundle import bundle_hash, stage_app
    from client_app.cli.local_superlink import last_error
    from client_app.cli.superlink import superlink_of

    config = {**config, "home": str(settings.home_path)}
    with superlink_of(settings) as superlink:
        # While the SuperLink starts.
        from client_app.cli.preparation import prepare

        prepare(settings, progress_console)
        app = stage_app(settings.home_path / "flwr" / "app")
        nodes: dict[str, object] | None = {"num-supernodes": len(settings.organization_names)}
        if settings.bundle:
            config, nodes = {**config, "bundle": bundle_hash(app)}, None
        run_id = superlink.submit(app, config, nodes)
        status = superlink.wait(run_id, refresh)
    if status == "finished:completed":
        return ""
    return f"{last_error(superlink.log) or f'Flower says {status}'} (log: {superlink.log})"
