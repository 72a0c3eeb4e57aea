"""Audio behind addresses: fetched only from named hosts, never from the network the server stands in.

A name is resolved once, every address it has is checked, and the connection goes to the address that was checked: a
name that resolves to something else a moment later changes nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

import h11

from vivavoce.base.errors import ConfigError
from vivavoce.serving.decoding import from_base64
from vivavoce.serving.limits import Limits
from vivavoce.serving.refusals import Refusal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

ANY_PUBLIC = "*"
# Reserved in ways that ``is_global`` does not know: an IPv4 address behind NAT64, and one cloud's metadata service.
_ALSO_INSIDE = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("168.63.129.16/32"))
_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 4096


@dataclass(frozen=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str


class Fetcher:
    """Gets files for callers.

    Args:
        hosts: Names of hosts that may be asked, or addresses, which may then be of the server's own network; ``*``
            allows every public host. Without any, only ``data:`` addresses are read.
        limits: Size and time.

    Raises:
        ConfigError: A host that is no name.
    """

    def __init__(self, hosts: Sequence[str], limits: Limits) -> None:
        wrong = [host for host in hosts if not host or any(c in host for c in "/@?#") or "://" in host]
        if wrong:
            raise ConfigError(
                f"--allow-url-host {wrong[0]!r} is no host; wanted a name such as files.example.com."
            )
        self._hosts, self._limits = {_plain(host) for host in hosts}, limits

    async def get(self, url: str, at: str) -> bytes:
        """The bytes behind an address.

        Args:
            url: ``https:``, ``http:`` or ``data:...;base64,...``.
            at: The field, for messages.

        Raises:
            Refusal: 400, not allowed or not to be had; 413, too large.
        """
        if url[:5].lower() == "data:":
            head, comma, body = url.partition(",")
            if not comma or not head.lower().endswith(";base64"):
                raise Refusal(400, f"{at}: wanted 'data:audio/...;base64,...'.", "invalid_url", at)
            return await asyncio.to_thread(from_base64, body, at)
        target = self._allowed(url, at)
        try:
            async with asyncio.timeout(self._limits.fetch_s):
                return await self._fetch(target, await self._resolve(target, at), at)
        except TimeoutError:
            limit = self._limits.fetch_s
            raise Refusal(
                400, f"{at}: {target.host} took more than {limit:g} s.", "fetch_failed", at
            ) from None
        except (OSError, h11.RemoteProtocolError, h11.LocalProtocolError):
            raise Refusal(
                400, f"{at}: {target.host} gave no answer; send the audio itself as input_audio.",
                "fetch_failed", at,
            ) from None  # fmt: skip

    def _allowed(self, url: str, at: str) -> _Target:
        if not self._hosts:
            raise Refusal(
                400, f"{at}: audio_url is not accepted, this server fetches nothing; send the audio itself as "
                "input_audio (base64) or in a data: address.", "unsupported_content", at,
            )  # fmt: skip
        try:
            if len(url) > _LONGEST_URL or any(c.isspace() or not c.isprintable() for c in url):
                raise ValueError
            parts = urllib.parse.urlsplit(url)
            host, port = _plain(parts.hostname or ""), parts.port
        except ValueError:
            raise Refusal(400, f"{at}: this is no address.", "invalid_url", at) from None
        if parts.scheme not in _PORTS or not host or "@" in parts.netloc:
            raise Refusal(400, f"{at}: wanted an https, http or data address.", "invalid_url", at)
        if host not in self._hosts and ANY_PUBLIC not in self._hosts:
            raise Refusal(400, f"{at}: this server does not fetch from {host}.", "host_not_allowed", at)
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        query = f"?{urllib.parse.quote(parts.query, safe='/%:@!$&()*+,;=~?')}" if parts.query else ""
        return _Target(parts.scheme, host, port or _PORTS[parts.scheme], path + query)

    async def _resolve(self, target: _Target, at: str) -> str:
        """An address to connect to; every one that the name has must be outside."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        named = target.host in self._hosts and _is_address(target.host)
        if not addresses or (not named and not all(map(is_outside, addresses))):
            raise Refusal(
                400, f"{at}: this server does not fetch from {target.host}.", "host_not_allowed", at
            )
        return str(addresses[0])

    async def _fetch(self, target: _Target, address: str, at: str) -> bytes:
        secure = ssl.create_default_context() if target.scheme == "https" else None
        reader, writer = await asyncio.open_connection(
            address, target.port, ssl=secure, server_hostname=target.host if secure else None
        )
        try:
            shown = f"[{target.host}]" if ":" in target.host else target.host
            host = shown if target.port == _PORTS[target.scheme] else f"{shown}:{target.port}"
            headers = [("Host", host), ("Accept-Encoding", "identity"), ("Connection", "close")]
            line = h11.Connection(h11.CLIENT)
            asked = line.send(h11.Request(method="GET", target=target.path, headers=headers))
            writer.write((asked or b"") + (line.send(h11.EndOfMessage()) or b""))
            await writer.drain()
            return await self._body(line, reader, at)
        finally:
            writer.close()

    async def _body(self, line: h11.Connection, reader: asyncio.StreamReader, at: str) -> bytes:
        most, data = self._limits.max_upload_bytes, bytearray()
        while True:
            event = line.next_event()
            if event is h11.NEED_DATA:
                line.receive_data(await reader.read(1 << 16))
            elif isinstance(event, h11.Response):
                if event.status_code != 200:
                    raise Refusal(
                        400, f"{at}: its host answered with status {event.status_code}, wanted 200; redirects are "
                        "not followed.", "fetch_failed", at,
                    )  # fmt: skip
            elif isinstance(event, h11.Data):
                data += event.data
                if len(data) > most:
                    raise Refusal(
                        413, f"{at}: the file is larger than {most} bytes.", "request_too_large", at
                    )
            elif isinstance(event, h11.EndOfMessage):
                return bytes(data)
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                raise OSError("closed early")


def is_outside(address: Address) -> bool:
    """Whether an address is of the public network, whatever way it is written."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None:
            return is_outside(inner)
    inside = any(address.version == network.version and address in network for network in _ALSO_INSIDE)
    return address.is_global and not address.is_multicast and not inside


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
