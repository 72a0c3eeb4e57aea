"""What is served and how, as plain values that also travel to replicas, and the server made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vivavoce.serving.limits import Limits

if TYPE_CHECKING:
    from vivavoce.serving.access import Access
    from vivavoce.serving.app import Server


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


def make_server(settings: ServerSettings, access: Access) -> Server:
    """Load the model and put a server around it.

    Raises:
        VivavoceError: As ``vivavoce.load``.
    """
    from vivavoce.inference.assistant import load
    from vivavoce.serving.app import Server
    from vivavoce.serving.engine import Engine

    assistant = load(settings.model, quantize=settings.quantize, device=settings.device)
    engine = Engine(assistant, settings.name)
    return Server(
        engine,
        access=access,
        limits=settings.limits,
        origins=settings.origins,
        ffmpeg=settings.ffmpeg,
        page=settings.page,
        url_hosts=settings.url_hosts,
    )
