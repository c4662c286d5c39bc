"""``foedus generate``: one prompt, answered by the base and by the federated adapter."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from client_app.cli.output import AsJson, Home, console, print_json
from client_app.cli.verification import chosen_run


def generate(
    prompt: Annotated[str, typer.Argument(help="Text to go on from.")],
    adapter_folder: Annotated[
        Path | None,
        typer.Option("--adapter", help="A PEFT folder; the newest run's adapter by default."),
    ] = None,
    run_name: Annotated[str | None, typer.Option("--run", help="Name of the run.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask as a chat message.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer.")] = 32,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0: always the most probable token.")
    ] = 0.0,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Answer a prompt with the base and with the adapter, side by side.

    Example: `foedus generate "Film review: A joy from start to finish.
    Sentiment:" --max-new-tokens 1`
    """
    from llm.adapters import read_adapter
    from llm.base_model import load_base_model
    from llm.generation import generate as answer
    from llm.records import Message
    from strategies.home import cache_folder
    from strategies.run_parts import base_model_settings
    from strategies.settings import RunSettings

    archive = chosen_run(home, run_name)
    settings = RunSettings.from_run_config(archive.read_settings())
    folder = adapter_folder or archive.adapter_folder(archive.last_prepared_round() or 0)
    base = load_base_model(base_model_settings(settings), cache_folder(archive.home))
    question = (Message("user", prompt),) if chat else prompt
    answers = {
        name: answer(
            base, question, adapter, max_new_tokens=max_new_tokens, temperature=temperature
        )
        for name, adapter in (("base", None), ("adapter", read_adapter(folder)))
    }
    if as_json:
        print_json({"prompt": prompt, "adapter_folder": str(folder), **answers})
        return
    # As text: what a model says may look like markup.
    title = Text(prompt)
    table = Table("base", f"adapter of run {archive.name}", title=title, show_lines=True)
    table.add_row(Text(answers["base"]), Text(answers["adapter"]))
    console.print(table)
