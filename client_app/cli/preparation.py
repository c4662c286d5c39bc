"""What a run needs before it starts, with a progress line for each step."""

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from client_app.own_data import load_own_data
from llm.model_source import base_model_path
from strategies.home import cache_folder
from strategies.run_chain import open_writing_chain
from strategies.run_parts import base_model_settings
from strategies.settings import RunSettings


def prepare(settings: RunSettings, console: Console) -> None:
    """Fetch model and data, start the managed chain, deploy the contracts: whatever is missing."""
    cache = cache_folder(settings.home_path)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=False,
    ) as progress:
        line = progress.add_task("base model", total=1)

        def show(step: str, done: int, total: int) -> None:
            progress.update(line, description=step, completed=done, total=total or None)

        base_model_path(base_model_settings(settings), cache, show)
        progress.update(line, description="base model", completed=1, total=1)

        # On separate machines each organization has its own, which nobody else reads.
        if not settings.bundle:
            line = progress.add_task("data", total=1)
            for name in settings.organization_names:
                load_own_data(settings, name, cache)
            progress.update(line, description="data", completed=1, total=1)

        line = progress.add_task("public chain", total=1)
        open_writing_chain(settings)
        progress.update(line, completed=1, total=1)
