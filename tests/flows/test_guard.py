"""Who may enter a server, and who may not."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from flows.servers.guard import Guard

OWN = "http://127.0.0.1:4200"
FOREIGN = ("https://evil.example", "http://127.0.0.1:5000", "http://127.0.0.1.evil.example:4200", "null", "")


async def answer(request):
    return PlainTextResponse("inside")


async def talk(socket):
    await socket.accept()
    await socket.send_text("inside")
    await socket.close()


def client(auth=None, origins=(), base_url=OWN):
    paths = [Route("/{path:path}", answer, methods=["GET", "POST", "OPTIONS"]), WebSocketRoute("/talk", talk)]
    return TestClient(Guard(Starlette(routes=paths), {"gpu.lan"}, origins, auth), base_url=base_url)


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost", "LOCALHOST:80", "[::1]:4200", "gpu.lan", "GPU.lan:1"])
def test_its_own_names_lead_in_at_any_port(host):
    assert client().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4200",
        "gpu.lan.evil.example",
        "192.0.2.1",
        "",
        "[",
        "a@localhost",
        "localhost/a",
        "localhost?a",
    ],
)
def test_other_names_do_not(host):
    assert client().get("/", headers={"Host": host}).status_code == 403


def test_the_address_that_a_connection_came_to_does():
    assert client(base_url="http://192.0.2.7:4200").get("/").status_code == 200


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_pages_elsewhere_may_neither_write_nor_read_nor_ask_whether_they_may(origin, kind):
    headers = {"Origin": origin, "Content-Type": kind, "Access-Control-Request-Method": "POST"}
    for way in ("POST", "GET", "OPTIONS"):
        answered = client(origins=["https://ours.example"]).request(way, "/api", headers=headers)
        assert answered.status_code == 403
        assert "access-control-allow-origin" not in answered.headers


def test_its_own_pages_and_those_that_are_named_may():
    for origin in (OWN, "https://ours.example"):
        assert client(origins=["https://ours.example"]).post("/api", headers={"Origin": origin}).status_code == 200


def test_a_page_elsewhere_opens_no_socket():
    with client().websocket_connect("ws://127.0.0.1:4200/talk", headers={"Origin": OWN}) as socket:
        assert socket.receive_text() == "inside"
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        with (
            pytest.raises(WebSocketDisconnect),
            client().websocket_connect("ws://127.0.0.1:4200/talk", headers=headers),
        ):
            pass
    with pytest.raises(WebSocketDisconnect), client(auth="user:secret").websocket_connect("ws://127.0.0.1:4200/talk"):
        pass


def test_whoever_knows_the_secret_enters_and_anybody_may_ask_for_health():
    inside = client(auth="user:s:e:cret")
    assert inside.get("/").status_code == 401
    assert inside.get("/").headers["www-authenticate"].startswith("Basic ")  # browsers ask their user
    assert inside.get("/health").status_code == 200
    assert inside.get("/", auth=("user", "s:e:cret")).status_code == 200
    for wrong in ("Basic dXNlcjp3cm9uZw==", "Basic ###", "Basic", "Bearer s:e:cret", "Basic dXNlcjpzOmU6Y3JldDo="):
        assert inside.get("/", headers={"Authorization": wrong}).status_code == 401
    for path in ("/api/health", "/health/", "//health", "/healthy"):
        assert inside.get(path).status_code == 401
