"""``/host/token``: who may ask for another pod's token, and how that is found out."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.nmi.conftest import Bench, Make, Reply, Start, read_reply
from tests.nmi.test_audit import Sink
from tests.real_server import RealServer

from podidentity.aio.clock import Clock
from podidentity.api.core import Pod
from podidentity.config.errors import ConfigError, UsageError
from podidentity.config.nmi import nmi_settings
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeUnavailable
from podidentity.nmi.callers import CallerRefused, Callers
from podidentity.nmi.cgroups import Cgroups, pod_uid
from podidentity.nmi.datapath.address import bind_unix
from podidentity.nmi.peer import Owner, owner_of
from podidentity.nmi.request import Headers, Link, Pin, Request
from podidentity.nmi.reviews import REVIEWS, Reviews
from podidentity.telemetry.logging import get_logger

UID = "6f0c1a2b-0000-4000-8000-00000000000a"
MANIFEST = Path(__file__).resolve().parents[2] / "deploy" / "nmi-token-review.yaml"
GET = b"GET /host/token/?resource=r HTTP/1.1\r\nHost: localhost\r\npodname: web\r\npodns: team\r\n"


@dataclass
class FakeAccounts:
    """Knows one token."""

    down: bool = False

    async def service_account(self, token: str) -> str:
        """Return the account of ``good``."""
        if self.down:
            raise KubeUnavailable("down")
        return "kube-system/csi" if token == "good" else ""


@dataclass
class World:
    """Callers in front of a made-up kernel and cgroup tree (an inode number is a cgroup's id, as in the real one)."""

    root: Path
    accounts: FakeAccounts = field(default_factory=FakeAccounts)
    owner: Owner | None = None
    pods: dict[str, Pod] = field(default_factory=dict)

    def cgroup(self, path: str) -> Owner:
        """Make a cgroup and return the owner of a socket in it."""
        folder = self.root / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return Owner(0, folder.stat().st_ino)

    async def ask(self, *allowed: str, authorization: str | None = None) -> str:
        """Return the proof of a caller on loopback."""
        headers = Headers()
        headers.authorization = authorization
        pin = Pin()
        pin.link = Link("127.0.0.1", 40000, "127.0.0.1", 2579)
        callers = Callers(
            frozenset(allowed), self.accounts, Cgroups(str(self.root)), lambda *_: self.owner, self.pods.get
        )
        return await callers.proof(Request("GET", b"/", headers, "127.0.0.1", pin=pin))


async def host_token(bench: Bench, *, more: bytes = b"", path: str = "") -> Reply:
    """Ask for the token of team/web, on loopback or through a socket."""
    if path:
        reader, writer = await asyncio.open_unix_connection(path)
    else:
        reader, writer = await bench.connect()
    writer.write(GET + more + b"\r\n")
    reply = await read_reply(reader)
    writer.close()
    await writer.wait_closed()
    return reply


async def test_d25_by_default_loopback_is_let_in_and_audited(start: Start, make: type[Make]) -> None:
    """Azure's own provider shows no credential, so loopback suffices; but the call is on record, and a pod is not."""
    sink = Sink()
    bench = await start(sink=sink)
    pod = make.pod()
    bench.put_pod(pod, make.pod("far", node="node-1", ip="10.0.0.9"))
    bench.put_assigned(make.assigned(pod))
    assert (await host_token(bench)).json["clientid"] == "client-of-app"
    reply = await bench.get("/host/token/?resource=r", podname="far", podns="team")
    assert (reply.status, reply.json["error_description"]) == (404, "pod team/far does not run on this node")
    await bench.close_audit()
    first, second = sink.events
    assert (first["caller"], first["pod"], first["path"]) == ("loopback", "team/web", "/host/token")
    assert (second["rule"], second["caller"]) == ("pod-unknown", "loopback")


async def test_socket_is_enough_and_serves_nothing_else(start: Start, make: type[Make], tmp_path: Path) -> None:
    """With ``socket`` alone loopback is refused; through the socket a pod's token comes, and no other route's."""
    path = str(tmp_path / "run" / "nmi.sock")
    sink = Sink()
    bench = await start("--host-token-callers=socket", sink=sink, unix=bind_unix(path))
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    refused = await host_token(bench)
    assert (refused.status, refused.json["error"]) == (403, "access_denied")
    assert (await host_token(bench, path=path)).status == 200
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(
        b"GET /metadata/identity/oauth2/token?resource=r HTTP/1.1\r\nHost: localhost\r\nMetadata: true\r\n\r\n"
    )
    assert (await read_reply(reader)).status == 403
    writer.close()
    await writer.wait_closed()
    await bench.close_audit()
    found = [(event["rule"], event["caller"], event["source"]) for event in sink.events]
    assert found == [("caller", "", "127.0.0.1"), ("assigned", "socket", "unix"), ("node-address", "", "unix")]


def test_socket_wants_a_folder_of_its_own(tmp_path: Path) -> None:
    """A folder others can enter is refused; one that is missing is made; a stale socket is replaced."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="others can enter it"):
        bind_unix(str(shared / "nmi.sock"))
    path = tmp_path / "own" / "nmi.sock"
    bind_unix(str(path)).close()
    bind_unix(str(path)).close()
    assert (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    with pytest.raises(ConfigError, match="cannot listen on"):
        bind_unix(str(path / "below"))


async def test_service_account_tokens_are_reviewed(tmp_path: Path) -> None:
    """Only the account that is listed gets in; while the API is down nobody does, and is told to come back."""
    world = World(tmp_path)
    allowed = "service-account:kube-system/csi"
    assert await world.ask(allowed, authorization="Bearer good") == allowed
    for wrong in ("Bearer bad", "Basic good", None):
        with pytest.raises(CallerRefused) as refused:
            await world.ask(allowed, authorization=wrong)
        assert not refused.value.passing
    with pytest.raises(CallerRefused):
        await world.ask("service-account:kube-system/other", authorization="Bearer good")
    world.accounts.down = True
    with pytest.raises(CallerRefused) as refused:
        await world.ask(allowed, authorization="Bearer good")
    assert refused.value.passing


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-1.scope",
        f"/kubepods/besteffort/pod{UID}/1",
    ],
)
async def test_pods_are_told_by_cgroup(make: type[Make], tmp_path: Path, path: str) -> None:
    """With either cgroup driver a process is its pod's, and the pod's account decides."""
    world = World(tmp_path)
    world.owner = world.cgroup(path)
    world.pods[UID] = make.pod("csi", "kube-system", uid=UID, service_account="csi")
    assert await world.ask("pod:kube-system/csi") == "pod:kube-system/csi"
    for other in ("pod:kube-system/other", "cgroup:/kubepods.slic", "cgroup:/system.slice"):
        with pytest.raises(CallerRefused):
            await world.ask(other)
    world.pods.clear()
    with pytest.raises(CallerRefused):
        await world.ask("pod:kube-system/csi")


async def test_services_of_the_node_are_told_by_path(tmp_path: Path) -> None:
    """A cgroup and what is below it may ask; a socket nobody holds any more, or of an unknown cgroup, may not."""
    world = World(tmp_path)
    world.owner = world.cgroup("/system.slice/backup.service/part")
    assert await world.ask("cgroup:/system.slice/backup.service") == "cgroup:/system.slice/backup.service/part"
    (tmp_path / "system.slice" / "backup.service" / "part").rename(tmp_path / "elsewhere")
    for owner in (None, Owner(0, 0), Owner(0, 2**60), world.owner):
        world.owner = owner
        with pytest.raises(CallerRefused):
            await world.ask("cgroup:/system.slice/backup.service")
    assert pod_uid("/kubepods.slice/podless") == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_kernel_tells_the_owner_of_the_other_end(address: str) -> None:
    """A living loopback connection has this user's id; one that was closed has no owner, not root."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        target = listener.getsockname()[:2]
        with socket.create_connection(target) as client, listener.accept()[0]:
            source = client.getsockname()[:2]
            owner = owner_of(source, target)
            assert owner is not None
            assert owner.uid == os.geteuid()
            assert owner.cgroup > 0
            client.close()
            assert owner_of(source, target) is None
        assert owner_of((address, 1), target) is None


def test_entries_are_checked() -> None:
    """A misspelt entry stops the start instead of letting nobody or everybody in."""
    given = "service-account:a/b,pod:kube-system/csi,cgroup:/system.slice,socket"
    assert len(nmi_settings(["--node=n", f"--host-token-callers={given}"], {}).host_token_callers) == 4
    for wrong in ("service-account:a", "pod:A/b", "cgroup:rel", "anybody", "uid:0"):
        with pytest.raises(UsageError, match="must hold service-account:NS/NAME"):
            nmi_settings(["--node=n", f"--host-token-callers={wrong}"], {})


async def token_of(client: KubeClient, name: str, audience: str) -> str:
    """Ask for a projected token of a service account, as the kubelet does."""
    path = f"/api/v1/namespaces/callers/serviceaccounts/{name}/token"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": 600},
    }
    token = json.loads(await client.raw("POST", path, body=body))["status"]["token"]
    assert isinstance(token, str)
    return token


async def test_real_api_server_reviews_tokens(real_server: RealServer) -> None:
    """A kubelet's token for our audience names its account; another audience's and a forged one do not."""
    for words in (("namespace", "callers"), ("serviceaccount", "csi", "-n", "callers")):
        assert real_server.kubectl("create", *words).returncode == 0
    try:
        async with KubeClient(real_server.settings(), user_agent="test") as client:
            good = await token_of(client, "csi", "podidentity-nmi")
            other = await token_of(client, "csi", "another")
            reviews = Reviews(client, "podidentity-nmi", Clock(), get_logger())
            assert await reviews.service_account(good) == "callers/csi"
            assert await reviews.service_account(other) == ""
            assert await reviews.service_account(f"{good}x") == ""
            assert REVIEWS.startswith("/apis/authentication.k8s.io/")
    finally:
        real_server.kubectl("delete", "namespace", "callers", "--wait=false")


def test_nmi_account_may_review_with_the_shipped_role(real_server: RealServer) -> None:
    """deploy/nmi-token-review.yaml is what TokenReview needs, and no more than it."""
    account = "--as=system:serviceaccount:default:aad-pod-id-nmi-service-account"
    ask = ("auth", "can-i", "create", "tokenreviews.authentication.k8s.io", account)
    assert real_server.kubectl(*ask).stdout.strip() == "no"
    assert real_server.kubectl("apply", "-f", str(MANIFEST)).returncode == 0
    try:
        assert real_server.kubectl(*ask).stdout.strip() == "yes"
        assert real_server.kubectl("auth", "can-i", "create", "pods", account).stdout.strip() == "no"
    finally:
        real_server.kubectl("delete", "-f", str(MANIFEST))
