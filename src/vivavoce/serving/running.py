"""Run the server until it is told to stop; what runs then is finished first."""

from __future__ import annotations

import logging
import signal
import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from vivavoce.base.errors import ConfigError
from vivavoce.serving.gate import JsonLines

UNREAD_MS = 120_000
WS_MAX_BYTES = 16 << 20  # of a message; longer ones close the connection, before the app sees them


def listen(host: str, port: int) -> socket.socket:
    """Take an address, before anything slow is done.

    Raises:
        ConfigError: It is taken, or not ours.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        door = socket.socket(family, kind, protocol)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # what a caller who is gone has not read is not kept for ever
            door.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
        door.bind(address)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error}; choose another --port or --host."
        ) from error
    return door


def run(server: ASGIApp, door: socket.socket, drain_s: float) -> None:
    """Serve until SIGTERM or Ctrl-C; running requests have ``drain_s`` to end, new ones are not taken."""
    _log_to_stderr()
    config = uvicorn.Config(
        server,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(drain_s)),
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 << 10,
        ws="websockets-sansio",
        ws_max_size=WS_MAX_BYTES,
        ws_per_message_deflate=False,  # audio does not get shorter
        lifespan="on",
    )
    # uvicorn raises the signal again when it is done; a drained server has ended well.
    signal.signal(signal.SIGTERM, lambda *_: None)
    Draining(config).run(sockets=[door])


class Draining(uvicorn.Server):
    """Lets conversations over WebSockets come to a good end; uvicorn itself would cut them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drain = getattr(self.config.app, "drain", None)
        if drain is not None:
            for listening in self.servers:
                listening.close()
            await drain()
        await super().shutdown(sockets)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("vivavoce.serving", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
