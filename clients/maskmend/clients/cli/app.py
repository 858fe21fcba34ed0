"""The commands and their options. Each command imports what it needs when it runs, so that --help is quick."""

from __future__ import annotations

import typer

from maskmend.clients.cli import convert, data, doctor, explain, export, label_studio, models, refine, serve, view

app = typer.Typer(
    name="maskmend",
    help="Sharpen the instance masks of any segmenter: looks closely along the boundary, never makes a mask worse.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"maskmend {version('maskmend')}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of every command."""


app.command("refine")(refine.refine)
app.command("convert")(convert.convert)
app.command("view")(view.view)
app.command("explain")(explain.explain)
app.command("degrade")(data.degrade)
app.command("evaluate")(data.evaluate)
app.command("demo")(data.demo)
app.command("train")(models.train)
app.command("export")(export.export)
app.command("bench")(data.bench)
app.command("doctor")(doctor.doctor)
app.command("serve")(serve.build())
app.command("label-studio")(label_studio.label_studio)
app.add_typer(models.app, name="models")
