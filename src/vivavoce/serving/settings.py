"""What is served and how, as plain values that also travel to replicas, and the server made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vivavoce.serving.limits import Limits

if TYPE_CHECKING:
    from vivavoce.serving.access import Access
    from vivavoce.serving.app import Server
    from vivavoce.serving.engine import Engine


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """One server.

    Attributes:
        model: Name, folder or hub id.
        name: Its id in requests.
        quantize, device: As in ``vivavoce.load``.
        limits: What is refused.
        ffmpeg: Let uploads in other containers go through the ffmpeg program.
        origins: Web pages of other addresses that may call.
        page: Serve the web page at ``/``.
        url_hosts: Hosts whose files may be named in ``audio_url``.
        engine: "own", or "vllm": vLLM draws the tokens.
        vllm_url: Of a vLLM that runs already.
        vllm_args: More of vLLM's own options.
    """

    model: str
    name: str
    quantize: str | None = None
    device: str | None = None
    limits: Limits = field(default_factory=Limits)
    ffmpeg: bool = False
    origins: tuple[str, ...] = ()
    page: bool = True
    url_hosts: tuple[str, ...] = ()
    engine: str = "own"
    vllm_url: str | None = None
    vllm_args: tuple[str, ...] = ()


def make_server(settings: ServerSettings, access: Access) -> Server:
    """Load the model and put a server around it.

    Raises:
        VivavoceError: As ``vivavoce.load``.
    """
    from vivavoce.serving.app import Server

    return Server(
        _engine(settings),
        access=access,
        limits=settings.limits,
        origins=settings.origins,
        ffmpeg=settings.ffmpeg,
        page=settings.page,
        url_hosts=settings.url_hosts,
    )


def _engine(settings: ServerSettings) -> Engine:
    if settings.engine == "vllm":
        from vivavoce.serving.vllm.process import make_engine

        return make_engine(settings.model, settings.name, settings.vllm_url, settings.vllm_args)
    from vivavoce.inference.assistant import load
    from vivavoce.serving.engine import Engine

    return Engine(load(settings.model, quantize=settings.quantize, device=settings.device), settings.name)
