"""pods/proxy of the embedded API server, to real pods."""

from __future__ import annotations

import json

import aiohttp
import pytest
from bench import PODS, SERVER, Cluster, ready

from podidentity.kube.errors import ApiError

pytestmark = pytest.mark.e2e
PROGRAM = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(418 if "teapot" in self.path else 302 if "away" in self.path else 200)
        self.send_header("Location", "http://10.240.0.1/")
        self.send_header("Content-Length", str(len(body) + ("breaks" in self.path)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("", 8080), Handler).serve_forever()
"""


async def test_a_pod_is_asked(lab: Cluster) -> None:
    """Protects the look at an agent's /status: path, query and answer pass, the caller's credentials do not."""
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    ports = [{"containerPort": 8080}]
    given = {"image": "podidentity/azure-sdk", "args": ["-c", PROGRAM], "ports": ports, "readinessProbe": probe}
    await lab.run("asked", container=given)
    pod = await lab.until("asked", ready)
    for name in ("asked", "asked:8080", "http:asked:", "http:asked:8080"):
        seen = json.loads(await lab.client.raw("GET", f"{PODS}/{name}/proxy/a%2Fb//c", params={"q": "1"}))
        assert seen["path"] == "/a%2Fb//c?q=1", name
        assert seen["headers"]["host"] == f"{pod['status']['podIP']}:8080"
        assert not {"authorization", "impersonate-user"} & set(seen["headers"])
    async with lab.session() as session:
        headers = {"Authorization": "Bearer secret", "Accept-Encoding": "gzip", "X-Mine": "yes"}
        for path, status in (("teapot", 418), ("away", 302)):
            url = f"{SERVER}{PODS}/asked/proxy/{path}"
            async with session.get(url, headers=headers, ssl=lab.tls, allow_redirects=False) as answer:
                assert answer.status == status
                seen = await answer.json(content_type=None)
                assert (seen["headers"].get("authorization"), seen["headers"]["x-mine"]) == (None, "yes")
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.get(f"{SERVER}{PODS}/asked/proxy/breaks", ssl=lab.tls) as answer:
                await answer.read()
    with pytest.raises(ApiError, match="error trying to reach service") as caught:
        await lab.client.raw("GET", f"{PODS}/asked:8081/proxy/")
    assert caught.value.code == 503
    with pytest.raises(ApiError, match="POST through pods/proxy"):
        await lab.client.raw("POST", f"{PODS}/asked/proxy/", body={})
    await lab.delete("asked")
