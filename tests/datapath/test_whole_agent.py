"""The whole agent in a node's namespace: a pod's request goes through real nft to nmi and on to the real address."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.datapath.conftest import IMDS, NODE_IP, Net

pytestmark = pytest.mark.datapath
AGENT = str(Path(__file__).with_name("agent.py"))
ARGV = ["--node=node-0", "--http-probe-port=8085", "--kubelet-config=/dev/null"]

TOKEN_SERVER = """
import http.server, json, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[2], "a") as log: log.write(self.client_address[0] + " " + self.path + "\\n")
        body = json.dumps({"access_token": "a.b.c", "client_id": "client-1", "expires_in": "86400",
            "expires_on": str(int(time.time()) + 86400), "resource": "r", "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer((sys.argv[1], 80), Handler)
print("ready", flush=True)
server.serve_forever()
"""

GET = """
import sys, urllib.request, urllib.error
request = urllib.request.Request(sys.argv[1], headers=dict(pair.split("=") for pair in sys.argv[2:]))
try:
    with urllib.request.urlopen(request, timeout=5) as answer: print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error: print(error.code, error.read().decode())
except OSError as error: print("0", error)
"""
TOKEN = f"http://{IMDS}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=r"


@pytest.fixture
def world(capable: None, tmp_path: Path) -> Net:
    """Return a routed net with an IMDS that gives tokens, and the objects of one pod."""
    return world_of("routed", tmp_path)


def world_of(variant: str, tmp_path: Path) -> Net:
    """Return a net of that kind with an IMDS that gives tokens, and the objects of one pod."""
    net = Net(variant, tmp_path)
    identity = {"metadata": {"name": "app", "namespace": "team"}, "spec": {"clientID": "client-1", "resourceID": "/x"}}
    objects = {
        "pods": [
            {
                "metadata": {"name": "web", "namespace": "team", "uid": "u1", "labels": {"aadpodidbinding": "web"}},
                "spec": {"nodeName": "node-0"},
                "status": {"phase": "Running", "podIP": net.pod_ip},
            }
        ],
        "azureassignedidentities": [
            {
                "metadata": {"name": "web-team-app", "namespace": "default"},
                "spec": {"azureIdentityRef": identity, "pod": "web", "podNamespace": "team", "nodename": "node-0"},
                "status": {"status": "Assigned"},
            }
        ],
    }
    (tmp_path / "objects.json").write_text(json.dumps(objects))
    process = net.spawn(net.fabric, TOKEN_SERVER, IMDS, str(net.imds_log))
    assert process.stdout is not None
    process.stdout.readline()
    return net


def agent(net: Net, *more: str) -> subprocess.Popen[str]:
    """Start the agent on the node; it ends with the net."""
    command = ["ip", "netns", "exec", net.node, sys.executable, AGENT, str(net.folder), *ARGV, *more]
    with (net.folder / "agent.err").open("w") as err:
        return net.own(subprocess.Popen(command, stderr=err, text=True))


def get(net: Net, namespace: str, url: str, *headers: str) -> tuple[int, str]:
    """GET a URL from a namespace."""
    status, _, body = net.run(namespace, GET, url, *headers).partition(" ")
    return int(status), body


def until_ready(net: Net, seconds: float = 15.0, path: str = "/readyz") -> None:
    """Wait for readiness, where this kind of process tells it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if get(net, net.node, f"http://127.0.0.1:8085{path}")[0] == 200:
            return
    raise AssertionError((net.folder / "agent.err").read_text())


def test_agent_serves_a_pod_and_fails_closed_when_it_ends(world: Net) -> None:
    """From flags to token through real nft; a health probe that says Active; SIGTERM leaves the node closed."""
    try:
        process = agent(world)
        until_ready(world)
        assert get(world, world.node, "http://127.0.0.1:8085/healthz") == (200, "Active")
        status, body = get(world, world.pod, TOKEN, "Metadata=true")
        assert (status, json.loads(body)["client_id"]) == (200, "client-1")
        assert world.imds_log.read_text().startswith(f"{NODE_IP} ")
        host = "http://localhost:2579/host/token/?resource=r"
        status, body = get(world, world.node, host, "podname=web", "podns=team")
        assert (status, json.loads(body)["clientid"]) == (200, "client-1")
        assert 'status_code="200"' in get(world, world.node, "http://127.0.0.1:9090/metrics")[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 0
        assert world.seen(world.imds_log) == 1
        done = agent(world, "--uninstall-datapath")
        assert done.wait(10) == 0
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 200
        log = (world.folder / "agent.err").read_text()
        assert "datapath is removed" in log
    finally:
        world.close()


def test_port_in_use_is_one_line(world: Net) -> None:
    """A busy port ends the start with one line that names it, and without a traceback."""
    try:
        world.start_agent()
        assert agent(world).wait(15) == 1
        text = (world.folder / "agent.err").read_text()
        assert "podidentity nmi: cannot listen on 10.240.0.4:2579: Address already in use" in text
        assert "Traceback" not in text
    finally:
        world.close()


def test_kubenet_is_refused_unless_allowed(world: Net) -> None:
    """The kubelet's flag stops the start with the documented text."""
    try:
        config = world.folder / "kubelet"
        config.write_text('KUBELET_ARGS="--network-plugin=kubenet"\n')
        assert agent(world, f"--kubelet-config={config}").wait(15) == 1
        text = (world.folder / "agent.err").read_text()
        assert "podidentity nmi: AAD Pod Identity is not supported for Kubenet. Review " in text
        assert "Traceback" not in text
    finally:
        world.close()
