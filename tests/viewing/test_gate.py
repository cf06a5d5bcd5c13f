"""The served page is for who has its address: every other request gets 403."""

import http.client
import sys
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from made_takes import make_take

from hmrkit.errors import UsageError
from hmrkit.viewing.clip import make_clip
from hmrkit.viewing.gate import Gate
from hmrkit.viewing.server import LivePage

OWN = {"host": "127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("host", "headers", "passes"),
    [
        ("127.0.0.1", OWN, True),
        ("127.0.0.1", {"host": "localhost:8080", "origin": "http://localhost:8080"}, True),
        ("127.0.0.1", {"host": "[::1]:8080"}, True),
        ("127.0.0.1", {"host": "evil.example:8080"}, False),  # DNS rebinding
        ("127.0.0.1", {"host": "evil.example:8080", "origin": "http://evil.example:8080"}, False),
        ("127.0.0.1", OWN | {"origin": "http://evil.example"}, False),
        ("127.0.0.1", OWN | {"origin": "null"}, False),
        ("127.0.0.1", OWN | {"origin": "http://127.0.0.1:9"}, False),
        ("127.0.0.1", {"host": "192.168.1.5:8080"}, False),
        ("127.0.0.1", {"host": "[::1"}, False),
        ("127.0.0.1", {}, False),
        ("0.0.0.0", {"host": "192.168.1.5:8080"}, True),
        ("0.0.0.0", {"host": "evil.example:8080"}, False),
        ("studio.local", {"host": "Studio.local:8080"}, True),
    ],
)
def test_host_and_origin_are_its_own(host, headers, passes):
    gate = Gate(host)
    assert gate.admits(f"/{gate.token}/", headers) == passes
    assert gate.admits(f"/{gate.token}", headers) == passes
    for path in ("/", "", f"/?{gate.token}", f"/{gate.token[:-1]}/", f"/x/{gate.token}/", f"/{gate.token}x/"):
        assert not gate.admits(path, headers)


def test_tokens_differ():
    assert Gate("127.0.0.1").token != Gate("127.0.0.1").token


@pytest.fixture(scope="module")
def address(models):
    pytest.importorskip("viser")
    page = LivePage(make_clip(make_take(models), models), models, port=8990)
    yield urlsplit(page.url)
    page.stop()


def ask(address, path, **headers):
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    status = connection.getresponse().status
    connection.close()
    return status


SOCKET = {
    "Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}  # fmt: skip


def test_pages_and_sockets_are_served_behind_the_gate(address):
    assert ask(address, address.path) == 200
    assert ask(address, address.path + "?darkMode") == 200
    assert ask(address, address.path[:-1], **SOCKET) == 101
    for path, headers in [
        ("/", {}),
        ("/index.html", {}),
        ("/", SOCKET),
        (address.path, {"Host": "evil.example"}),
        (address.path, {"Host": "evil.example", **SOCKET}),
        (address.path, {"Origin": "http://evil.example", **SOCKET}),
    ]:
        assert ask(address, path, **headers) == 403, (path, headers)


def test_a_server_without_the_gate_is_not_left_running(models, monkeypatch):
    stopped = []
    server = SimpleNamespace(stop=lambda: stopped.append(True))
    monkeypatch.setitem(sys.modules, "viser", SimpleNamespace(ViserServer=lambda **_: server))
    monkeypatch.setattr("hmrkit.viewing.server.require_viser", lambda: None)
    pytest.importorskip("websockets")
    with pytest.raises(UsageError, match="cannot be guarded"):
        LivePage(make_clip(make_take(models), models), models)
    assert stopped
