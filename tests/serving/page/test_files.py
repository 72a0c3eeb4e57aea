"""The page's files: only these, the right types, kept by their ETag, with headers that forbid everything else."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from tests.serving.live import Live, Patient, serving

from vivavoce.serving import page

FILES = sorted(file.name for file in page.FOLDER.iterdir() if file.suffix in page.TYPES)


def test_the_page_needs_no_key(live: Live) -> None:
    answer = httpx.get(f"{live.root}/")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{live.root}/v1/models").status_code == 401


@pytest.mark.parametrize("name", [name for name in FILES if name != "index.html"])
def test_files_have_types_and_tags(live: Live, name: str) -> None:
    address = f"{live.root}/page/{name}"
    answer = httpx.get(address)
    assert answer.status_code == 200
    assert answer.content == (page.FOLDER / name).read_bytes()
    assert answer.headers["content-type"] == page.TYPES[Path(name).suffix]
    again = httpx.get(address, headers={"If-None-Match": f'"other", W/{answer.headers["etag"]}'})
    assert again.status_code == 304 and not again.content
    assert again.headers["etag"] == answer.headers["etag"]
    assert httpx.get(address, headers={"If-None-Match": '"other"'}).status_code == 200
    head = httpx.head(address)
    assert head.status_code == 200 and not head.content


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/__init__.py",
        "/page/index.html",
        "/page/..%2fapp.py",
        "/page/%2e%2e/gate.py",
        "/app.py",
    ],
)
def test_nothing_else_is_a_file(live: Live, path: str) -> None:
    answer = httpx.get(live.root + path, headers={"Authorization": f"Bearer {live.key}"})
    assert answer.status_code == 404
    assert "x-request-id" in answer.headers


def test_a_server_without_the_page() -> None:
    with serving(Patient(), page=False) as server:
        assert httpx.get(f"{server.root}/").status_code == 404
        assert httpx.get(f"{server.root}/page/main.js").status_code == 404


def test_no_file_names_another_address_or_inline_code() -> None:
    for name in FILES:
        text = (page.FOLDER / name).read_text()
        found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text))
        assert found <= {"http://www.w3.org"}, f"{name} names {found}"
        assert "innerHTML" not in text and "eval(" not in text
    index = (page.FOLDER / "index.html").read_text()
    assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=", index)
