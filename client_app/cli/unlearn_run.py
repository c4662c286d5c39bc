"""Have open requests to forget carried out on this machine: ``foedus unlearn --submit``."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from client_app.cli.output import console, fail, print_json, progress_console
from client_app.cli.submitted import submitted

if TYPE_CHECKING:
    from client_app.cli.run_display import RunDisplay
    from strategies.settings import RunSettings


def submit_unlearning(settings: "RunSettings") -> None:
    """Submit a run that unlearns, and show its progress until it has ended.

    Parameters
    ----------
    settings : RunSettings
        Those of the run that the requests are about; they name its home.
    """
    with ExitStack() as stack:
        problem = submitted(settings, {"mode": "unlearn"}, _Replacing(settings, stack).refresh)
    if problem:
        fail(f"the run that unlearns failed: {problem}")


def carry_out_open(settings: "RunSettings") -> list[dict[str, str]]:
    """Have all open requests carried out, and say what became of each.

    Parameters
    ----------
    settings : RunSettings
        As for :func:`submit_unlearning`.

    Returns
    -------
    list of dict
        ``id`` and ``state`` of each request that was open before.
    """
    from strategies.open_requests import open_requests_about
    from strategies.run_chain import open_reading_chain

    chain = open_reading_chain(settings)
    asked = sorted(open_requests_about(chain, _tasks_here(settings)))
    submit_unlearning(settings)
    said = []
    for identifier in asked:
        stored = chain.unlearning.request_of(identifier)
        state = "unknown" if stored is None else stored.state.name.lower()
        said.append({"id": f"0x{identifier.hex()}", "state": state})
    return said


def print_carried_out(done: list[dict[str, str]], as_json: bool) -> None:
    """Print what :func:`carry_out_open` says; exit status 1 if a request stays open."""
    if as_json:
        print_json({"requests": done})
    else:
        for one in done:
            console.print(f"{one['id']}: {one['state']}", highlight=False)
        if not done:
            console.print("no request is open")
    if any(one["state"] == "open" for one in done):
        raise typer.Exit(1)


def _tasks_here(settings: "RunSettings") -> list[bytes]:
    """Return the tasks of all runs under the home."""
    from strategies.run_archive import read_json

    entries = [read_json(p) for p in sorted((settings.home_path / "runs").glob("*/run.json"))]
    return [bytes.fromhex(entry["task"]) for entry in entries if "task" in entry]


class _Replacing:
    """The rounds of whatever run takes the place of the newest, as they are made."""

    def __init__(self, settings: "RunSettings", stack: ExitStack) -> None:
        from strategies.run_archive import newest_run

        self._settings, self._stack = settings, stack
        before = newest_run(settings.home_path)
        self._shown = set() if before is None else {before.name}
        self._display: RunDisplay | None = None

    def refresh(self) -> bool:
        """Show how far it is; return whether nothing is being made, so that it may have ended."""
        from client_app.cli.run_display import RunDisplay
        from strategies.run_archive import newest_run

        newest = newest_run(self._settings.home_path)
        if newest is not None and newest.name not in self._shown:
            self._shown.add(newest.name)
            of_run = type(self._settings).from_run_config(newest.read_settings())
            display = RunDisplay(of_run, newest.folder, progress_console)
            self._display = self._stack.enter_context(display)
        if self._display is None:
            return True
        self._display.refresh()
        return self._display.ended
