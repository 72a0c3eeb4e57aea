"""``vivavoce serve``: a model over HTTP, for clients of OpenAI's API."""

from __future__ import annotations

import dataclasses
import gc
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivavoce.base.errors import ConfigError, MissingExtraError
from vivavoce.cli.options import Debug, Device, Json, Quantize
from vivavoce.cli.screen import note, print_json, working

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from vivavoce.serving.access import Access
    from vivavoce.serving.settings import ServerSettings

KEYS_VARIABLE = "VIVAVOCE_API_KEYS"


class Engines(StrEnum):
    """Who draws the tokens."""

    own = "own"
    vllm = "vllm"


HERE_ONLY = ("127.0.0.1", "localhost", "::1")


def serve(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="`nano` (built in), a folder, or a hub id.")
    ] = "nano",
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Address to listen on; `0.0.0.0` is every network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="0 takes a free one.", min=0, max=65535)] = 8000,
    name: Annotated[
        str | None,
        typer.Option(metavar="ID", help="What requests call the model. Default: the last part of MODEL."),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            "--api-key", metavar="KEY", help="A key that callers must send; may be given several times."
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keys, one per line; not seen in the list of processes."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin", metavar="URL", help="A web page's origin that may call. Default: none."
        ),
    ] = None,
    max_upload_mb: Annotated[float, typer.Option(metavar="MB", help="Largest request.")] = 25.0,
    max_audio_s: Annotated[float, typer.Option(metavar="S", help="Most audio in one request.")] = 300.0,
    max_tokens: Annotated[int, typer.Option(metavar="N", help="Most tokens that may be asked for.")] = 4096,
    slots: Annotated[
        int,
        typer.Option(metavar="N", help="Requests that are worked on at once; they share the model.", min=1),
    ] = 8,
    max_queue: Annotated[int, typer.Option(metavar="N", help="Requests that may wait for a slot.")] = 32,
    max_concurrent: Annotated[int, typer.Option(metavar="N", help="Requests of one caller at a time.")] = 8,
    max_realtime: Annotated[int, typer.Option(metavar="N", help="Realtime connections at a time.")] = 64,
    requests_per_minute: Annotated[int, typer.Option(metavar="N", help="Of one caller; 0 is no limit.")] = 0,
    drain: Annotated[
        float, typer.Option(metavar="S", help="Time for running requests after SIGTERM.")
    ] = 30.0,
    ffmpeg: Annotated[
        bool, typer.Option("--ffmpeg", help="Take uploads that only the ffmpeg program reads (m4a, webm).")
    ] = False,
    allow_url_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-url-host",
            metavar="HOST",
            help="A host whose files `audio_url` may name; an address may be of this network, `*` is every public "
            "host. Default: none.",
        ),
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(metavar="N", help="Processes with a model each, one per GPU or share of cores.", min=1),
    ] = 1,
    engine: Annotated[
        Engines, typer.Option(metavar="ENGINE", help="`own`, or `vllm`: vLLM draws the tokens; see `export`.")
    ] = Engines.own,
    vllm_url: Annotated[
        str | None,
        typer.Option("--vllm-url", metavar="URL", help="A vLLM that runs already. Default: start one."),
    ] = None,
    vllm_arg: Annotated[
        list[str] | None,
        typer.Option("--vllm-arg", metavar="ARG", help="One of vLLM's own, such as `--max-model-len=8192`."),
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="The web page at `/` to talk with.")] = True,
    quantize: Quantize = None,
    device: Device = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Serve a model to clients of OpenAI's API, and a web page to talk with it.

    Keys also come from the environment variable VIVAVOCE_API_KEYS, with commas between. Without any key
    everyone who reaches the port may call. Ends on Ctrl-C or SIGTERM, after the running requests. Log lines
    are JSON on stderr and hold nothing of what was said.
    """
    try:
        from vivavoce.serving.access import Access
        from vivavoce.serving.limits import Limits
        from vivavoce.serving.running import BACKLOG, listen, run
        from vivavoce.serving.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"serving needs the package {error.name}; install it: pip install 'vivavoce[serve]'"
        ) from error
    limits = Limits(
        max_upload_bytes=round(max_upload_mb * (1 << 20)),
        max_audio_s=max_audio_s,
        max_tokens=max_tokens,
        slots=slots,
        max_queue=max_queue,
        max_concurrent=max_concurrent,
        max_realtime=max_realtime,
        max_realtime_per_caller=min(32, max_realtime),
        requests_per_minute=requests_per_minute,
        drain_s=drain,
    )
    if engine is Engines.vllm and (replicas > 1 or quantize or device):
        raise ConfigError(
            "--replicas, --quantize and --device are for our own engine; give vLLM its own, such as "
            "--vllm-arg=--data-parallel-size=2."
        )
    if engine is Engines.own and (vllm_url or vllm_arg):
        raise ConfigError("--vllm-url and --vllm-arg go with --engine vllm.")
    keys = _keys(api_key or [], api_key_file)
    access = Access(keys, limits)
    settings = ServerSettings(
        model=model,
        name=name or model.rstrip("/").rpartition("/")[2],
        quantize=quantize,
        device=device,
        limits=limits,
        ffmpeg=ffmpeg,
        origins=tuple(cors_origin or ()),
        page=page,
        url_hosts=tuple(allow_url_host or ()),
        engine=engine.value,
        vllm_url=vllm_url,
        vllm_args=tuple(vllm_arg or ()),
    )
    door = listen(host, port)
    with working(f"loading {model}"):
        server = _server(settings, access) if replicas == 1 else _front(settings, access, replicas)
    gc.freeze()  # model and libraries stay to the end; searches for cycles pass them over
    address = f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}"
    door.listen(BACKLOG)  # whoever comes as soon as they are told waits for the loop, and is not refused
    if json:
        print_json({"model": settings.name, "url": f"{address}/v1", "keys": len(keys)})
    else:
        talk = f" Talk with it at {address}/" if page else ""
        note(f"serving {settings.name} at {address}/v1; Ctrl-C ends it.{talk}")
    if not keys and host not in HERE_ONLY:
        note("no API key: everyone who reaches this port may call. Give --api-key-file FILE.")
    run(server, door, limits.drain_s)


def _server(settings: ServerSettings, access: Access) -> ASGIApp:
    """The model in this process."""
    from vivavoce.serving.settings import make_server

    return make_server(settings, access)


def _front(settings: ServerSettings, access: Access, count: int) -> ASGIApp:
    """The model in processes of their own, started and ready."""
    from vivavoce.serving.replicas.front import Front
    from vivavoce.serving.replicas.processes import Replicas, environments

    inner = dataclasses.replace(settings, origins=())
    replicas = Replicas(inner, environments(count, settings.device))
    replicas.start()
    return Front(replicas, access, settings.origins)


def _keys(given: list[str], file: Path | None) -> list[str]:
    keys = [*given, *os.environ.get(KEYS_VARIABLE, "").split(",")]
    if file is not None:
        try:
            keys += file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the keys in {file}: {error}.") from error
    found = [key.strip() for key in keys if key.strip()]
    if file is not None and not found:
        raise ConfigError(f"{file} has no key; wanted one per line.")
    return found
