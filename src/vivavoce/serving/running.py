"""Run the server until it is told to stop; what runs then is finished first."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from vivavoce.base.errors import ConfigError
from vivavoce.serving.gate import JsonLines

log = logging.getLogger("vivavoce.serving")

BACKLOG = 2048  # connections that wait to be taken
UNREAD_MS = 120_000
WS_MAX_BYTES = 16 << 20  # of a message; longer ones close the connection, before the app sees them


def listen(host: str, port: int) -> socket.socket:
    """Take an address, before anything slow is done; until ``listen`` is called on it, callers are refused.

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
        backlog=BACKLOG,
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
        log.info("stopping", extra={"fields": {"drain_s": self.config.timeout_graceful_shutdown}})
        drain = getattr(self.config.app, "drain", None)
        if drain is not None:
            for listening in self.servers:
                listening.close()
            draining = asyncio.ensure_future(drain())
            while not (draining.done() or self.force_exit):
                await asyncio.wait({draining}, timeout=0.1)
            if not draining.cancel():
                draining.result()
        await super().shutdown(sockets)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's is worth its place.

    It calls a refused handshake, and whatever a second Ctrl-C cuts, an error; refusals have lines of ours.
    """
    fault = record.exc_info[1] if record.exc_info else None
    cut = isinstance(fault, asyncio.CancelledError) or "asyncio.exceptions.CancelledError" in str(record.msg)
    return not cut and record.msg != "ASGI callable returned without completing handshake."


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(is_news)
    for name, level in (("vivavoce.serving", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
