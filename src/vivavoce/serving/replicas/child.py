"""A replica: the server of one model on a port of this machine, for the front that started it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import urllib.parse
from typing import Any

from vivavoce.base.errors import VivavoceError
from vivavoce.serving.access import Access
from vivavoce.serving.limits import Limits
from vivavoce.serving.settings import ServerSettings


class BehindFront(Access):
    """Lets only the front in, and takes its word for who calls; the front has counted them already."""

    from_front = True

    def __init__(self, secret: str, limits: Limits) -> None:
        super().__init__([secret], limits)

    def caller(self, authorization: str, address: str) -> str:
        given, _, name = authorization.partition(",")
        super().caller(given, address)
        return urllib.parse.unquote(name)

    def enter(self, name: str) -> None:
        pass

    def leave(self, name: str) -> None:
        pass


def authorization(secret: str, caller: str) -> str:
    """The header by which the front says who calls."""
    return f"Bearer {secret},{urllib.parse.quote(caller)}"


def main() -> None:
    """Read a line of settings, serve, and tell the port; end when the front is gone."""
    given: dict[str, Any] = json.loads(sys.stdin.readline())
    told, sys.stdout = sys.stdout, sys.stderr  # whatever libraries print
    threading.Thread(target=_end_with_the_front, daemon=True).start()
    settings = ServerSettings(**{**given["settings"], "limits": Limits(**given["settings"]["limits"])})
    try:
        from vivavoce.serving.running import BACKLOG, listen, run
        from vivavoce.serving.settings import make_server

        door = listen("127.0.0.1", 0)
        server = make_server(settings, BehindFront(given["secret"], settings.limits))
    except VivavoceError as error:
        print(json.dumps({"error": str(error)}), file=told, flush=True)
        sys.exit(2)
    server.service.spoken.mark = f"r{given['number']}_"
    door.listen(BACKLOG)
    print(json.dumps({"port": door.getsockname()[1]}), file=told, flush=True)
    run(server, door, settings.limits.drain_s)


def _end_with_the_front() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
