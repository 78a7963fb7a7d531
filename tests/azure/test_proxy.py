"""A proxy and a private CA, set by environment variables: who goes through it, and who never does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.azure.servers import answer, fake_server
from tests.azure.test_simulated_azure import GROUP, SEED, certificates

from podidentity.lab.cloud import CloudConfig, Running, parse_seed, serve

ROOT = Path(__file__).resolve().parents[2]
KUBELET = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/kubelet"


@dataclass
class Proxy:
    """What it was asked for: ``CONNECT host:port``, or another request's first two words."""

    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a tunnel's bytes on both ways; refuse everything else."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.decode().split(" ", 2)
            self.asked.append(f"{method} {target}")
            if method != "CONNECT":
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = target.rpartition(":")
            inner, outer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                await asyncio.gather(_pump(reader, outer), _pump(inner, writer))
            finally:
                outer.close()
        finally:
            writer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.write_eof()


@asynccontextmanager
async def running_proxy() -> AsyncIterator[Proxy]:
    """A proxy on loopback."""
    proxy, tunnels = Proxy(), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnels.add(asyncio.create_task(proxy.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for tunnel in tunnels:
            tunnel.cancel()
        await asyncio.gather(*tunnels, return_exceptions=True)


@dataclass
class Site:
    """The simulated Azure over TLS by a private CA, a Kubernetes, and the proxy before them."""

    azure: Running
    kubernetes: str
    proxy: Proxy
    bundle: Path

    @property
    def where(self) -> dict[str, str]:
        """The addresses."""
        return {
            "arm": self.azure.arm_url,
            "entra": self.azure.entra_url,
            "vault": self.azure.vault_url("kv1"),
            "imds": self.azure.imds_url,
            "kubernetes": self.kubernetes,
            "kubelet": self.azure.world.identities[KUBELET.casefold()].client_id,
        }

    async def ask(self, sign_in: str = "service principal", **environ: str) -> Mapping[str, str]:
        """What a process with that environment is answered; it signs in to ARM as a service principal or the node."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.azure.inside_proxy", json.dumps({**self.where, "sign_in": sign_in})),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **environ},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        found: Mapping[str, str] = json.loads(out)
        return found


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """All of it."""
    certificate, key = certificates(tmp_path)
    config = CloudConfig(state_dir=tmp_path / "state", seed=parse_seed(SEED), tls=(certificate, key))
    async with serve(config) as azure, fake_server() as kubernetes, running_proxy() as proxy:
        kubernetes.default = answer(200, {"gitVersion": "v1.34.4"})
        yield Site(azure, kubernetes.url, proxy, certificate)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
async def test_azure_goes_through_the_proxy_and_nobody_else_does(site: Site, variable: str) -> None:
    """ARM, Entra ID and Key Vault do; the metadata service and Kubernetes never, without any NO_PROXY."""
    proxies = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), site.proxy.url)
    found = await site.ask(**proxies, **{variable: str(site.bundle)})
    assert (found["arm"], found["imds"], found["kubernetes"]) == ("ok", "ok", "v1.34.4")
    assert "401" in found["vault"] or "AKV10" in found["vault"], found
    tunnels = {f"CONNECT {urlsplit(site.where[name]).netloc}" for name in ("arm", "entra", "vault")}
    assert set(site.proxy.asked) == tunnels


async def test_no_proxy_takes_a_host_out(site: Site) -> None:
    """Hosts of NO_PROXY are asked directly."""
    found = await site.ask(HTTPS_PROXY=site.proxy.url, NO_PROXY="127.0.0.1", SSL_CERT_FILE=str(site.bundle))
    assert found["arm"] == "ok"
    assert site.proxy.asked == []


async def test_without_the_private_ca_nobody_is_trusted(site: Site) -> None:
    """The proxy is no way around the check of certificates, and the line says what failed."""
    found = await site.ask("node", HTTPS_PROXY=site.proxy.url)
    assert "certificate verify failed" in found["arm"].lower()
    assert "certificate verify failed" in found["vault"].lower()
    assert (found["imds"], found["kubernetes"]) == ("ok", "v1.34.4")


async def test_a_proxy_that_is_down_is_said(site: Site) -> None:
    """Azure is not asked directly instead."""
    found = await site.ask("node", HTTPS_PROXY="http://127.0.0.1:1", SSL_CERT_FILE=str(site.bundle))
    assert found["arm"] != "ok"
    assert found["vault"] != "ok"
    assert found["imds"] == "ok"
