"""`maskmend label-studio`: an ML backend that refines regions where they are drawn."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from maskmend.patcher.defaults import CAUTION
from maskmend.patcher.errors import OptionError

console = Console(stderr=True)


def label_studio(
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on; 0.0.0.0 for all."),
    port: int = typer.Option(9090, "--port", min=1, max=65535, help="Port to listen on."),
    images: Path = typer.Option(None, "--images", help="Folder of the photographs, looked in first."),
    label_studio_url: str = typer.Option(
        None, "--label-studio-url", envvar="LABEL_STUDIO_URL", help="Label Studio, to fetch images from."
    ),
    label_studio_token: str = typer.Option(
        None,
        "--label-studio-token",
        envvar="LABEL_STUDIO_API_KEY",
        help="Access token of a user of Label Studio; better in the variable, where `ps` does not show it.",
    ),
    server: str = typer.Option(
        None, "--server", help="URL of a maskmend server that refines; otherwise this process does."
    ),
    api_key: str = typer.Option(None, "--api-key", envvar="MASKMEND_API_KEY", help="Key of that server."),
    weights: str = typer.Option(
        "bpr-small", "--weights", help="Name or path of the weights; see `maskmend models list`."
    ),
    caution: float = typer.Option(
        CAUTION, "--caution", help="0 to 1: how likely an improvement must be for the guard to let it through."
    ),
    threads: int = typer.Option(None, "--threads", min=1, help="Threads of the network; all cores if not given."),
    tolerance: float = typer.Option(
        0.5,
        "--tolerance",
        help="Farthest that a polygon may lie from its mask, in px; 0 for every pixel's corner.",
    ),
    user: str = typer.Option(
        None,
        "--basic-auth-user",
        envvar="BASIC_AUTH_USER",
        help="User that Label Studio must name; the password is taken from the variable BASIC_AUTH_PASS.",
    ),
    password: str = typer.Option(None, "--basic-auth-pass", envvar="BASIC_AUTH_PASS", hidden=True),
) -> None:
    """Serve an ML backend for Label Studio that refines brush and polygon regions.

    Connect it in Label Studio under Settings, Model. It keeps ids and labels of regions, and gives each a score. Images
    are read from --images, or fetched from the one Label Studio named by --label-studio-url, and from nowhere else.

    Examples:
        maskmend label-studio --images photos/

        maskmend label-studio --label-studio-url http://127.0.0.1:8080 --host 0.0.0.0 --basic-auth-user me
    """
    try:
        import uvicorn

        from maskmend.clients.annotation.label_studio import build_app
    except ImportError as error:
        raise OptionError(
            "the service is not installed; pip install 'maskmend[cpu,serve]'", field="label-studio"
        ) from error
    from maskmend.clients.annotation.host_files import HostFiles
    from maskmend.clients.annotation.refiners import refiner
    from maskmend.clients.annotation.task_images import TaskImages
    from maskmend.patcher.simplify import check_tolerance

    if (user is None) != (password is None):
        raise OptionError("--basic-auth-user and the variable BASIC_AUTH_PASS go together", field="basic-auth-user")
    if images is None and label_studio_url is None:
        raise OptionError("say where images are: --images or --label-studio-url", field="images")
    if images is not None and not images.is_dir():
        raise OptionError(f"--images {images} is not a folder", field="images")
    check_tolerance(tolerance)
    options = {} if server else {"weights": weights, "caution": caution, "threads": threads}
    source = HostFiles(label_studio_url, label_studio_token) if label_studio_url else None
    app = build_app(
        refiner(server, api_key, **options),
        TaskImages(images, source),
        tolerance=tolerance,
        basic_auth=(user, password) if user is not None else None,
    )
    console.print(f"backend for Label Studio: http://{host}:{port}", highlight=False)
    uvicorn.run(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False, limit_concurrency=64
    )
