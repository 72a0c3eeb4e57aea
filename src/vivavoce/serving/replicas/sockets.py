"""WebSockets on to a replica: one connection there for each here, for as long as it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from vivavoce.serving.replicas.child import authorization
from vivavoce.serving.replicas.processes import Replicas

KEY_PROTOCOL = "openai-insecure-api-key."  # how browsers send a key; it stays with us
TRY_AGAIN = 1013
_KEPT = ("retry-after", "www-authenticate")


def key_of_browsers(scope: Scope) -> str:
    """The key among the subprotocols, as a header would have it; "" if there is none."""
    keys = [p.removeprefix(KEY_PROTOCOL) for p in scope.get("subprotocols", []) if p.startswith(KEY_PROTOCOL)]
    return f"Bearer {keys[0]}" if keys else ""


async def pass_on(replicas: Replicas, scope: Scope, receive: Receive, send: Send) -> None:
    """Connect to the least busy replica and carry messages both ways until either side ends.

    The conversation lives in that replica; if it dies, the connection is closed with 1013 and the caller begins anew.
    """
    await receive()  # websocket.connect
    replica = replicas.choose()
    if replica is None:
        await send({"type": "websocket.close", "code": TRY_AGAIN, "reason": "no replica is ready"})
        return
    query = scope["query_string"].decode("latin-1")
    url = f"ws://{replica.address}{scope['path']}" + (f"?{query}" if query else "")
    kept = (b"origin", b"openai-beta", b"user-agent")
    headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"] if k in kept]
    headers.append(("authorization", authorization(replica.secret, scope.get("caller", ""))))
    protocols = [Subprotocol(p) for p in scope.get("subprotocols", []) if not p.startswith(KEY_PROTOCOL)]
    replica.open += 1
    try:
        async with connect(
            url,
            additional_headers=headers,
            subprotocols=protocols or None,
            user_agent_header=None,
            max_size=None,
            compression=None,
            proxy=None,
        ) as inner:
            await send({"type": "websocket.accept", "subprotocol": inner.subprotocol})
            await _carry(inner, receive, send)
    except InvalidStatus as refused:
        said = refused.response
        await refuse(scope, send, said.status_code, bytes(said.body or b""), dict(said.headers.raw_items()))
    except (OSError, TimeoutError, InvalidHandshake):
        await send({"type": "websocket.close", "code": TRY_AGAIN, "reason": "the replica died"})
    finally:
        replica.open -= 1


async def _carry(inner: ClientConnection, receive: Receive, send: Send) -> None:
    async def inwards() -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1000)
            text = message.get("text")
            await inner.send(message["bytes"] if text is None else text)

    async def outwards() -> None:
        async for message in inner:
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})

    tasks = {asyncio.ensure_future(inwards()), asyncio.ensure_future(outwards())}
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    gone = next((r for r in results if isinstance(r, WebSocketDisconnect)), None)
    if gone is not None:
        await inner.close(gone.code if 1000 <= gone.code < 5000 and gone.code not in (1005, 1006) else 1000)
        return
    for task in done:
        fault = task.exception()
        if fault is not None and not isinstance(fault, ConnectionClosed):
            raise fault
    code = inner.close_code
    if code in (None, 1005, 1006):  # no goodbye: the process is gone
        code = TRY_AGAIN if code != 1005 else 1000
    await send({"type": "websocket.close", "code": code, "reason": inner.close_reason or ""})


async def refuse(scope: Scope, send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Answer with a status instead of a connection, where the server can; 1008 elsewhere."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    kept = {"content-type": "application/json"} | {k: v for k, v in headers.items() if k.lower() in _KEPT}
    raw = [(k.lower().encode(), v.encode()) for k, v in kept.items()]
    await send({"type": "websocket.http.response.start", "status": status, "headers": raw})
    await send({"type": "websocket.http.response.body", "body": body})
