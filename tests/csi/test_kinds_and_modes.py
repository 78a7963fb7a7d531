"""Keys, certificates, histories and the ways to sign in, through gRPC as the driver calls."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
from pathlib import Path

import grpc.aio
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding
from tests.csi.conftest import Bench, aad_answer, attributes, secret_answer
from tests.csi.test_content import KEY_PEM, LEAF, MIDDLE, ROOT, number, pfx
from tests.csi.test_objects import array
from tests.csi.test_parameters import tokens

from podidentity.csi.parameters import SERVICE_ACCOUNT_TOKENS
from podidentity.csi.proto import provider_pb2
from podidentity.csi.server import deadline

VAULT = "https://kv-demo.vault.azure.net"
POINT = LEAF.key.public_key().public_numbers()


def version_list(request: web.BaseRequest) -> web.StreamResponse:
    """Four versions on two pages, one of them disabled."""
    kind, name = request.path.split("/")[1:3]
    key = "kid" if kind == "keys" else "id"
    rows = [("v1", True, 10), ("v3", True, 30), ("v4", False, 40), ("v2", True, 20)]
    items = [
        {key: f"{VAULT}/{kind}/{name}/{version}", "attributes": {"enabled": enabled, "created": created}}
        for version, enabled, created in rows
    ]
    first = "page" not in request.query
    more = f"http://{request.host}{request.path}?api-version=7.4&page=2" if first else None
    return web.json_response({"value": items[:2] if first else items[2:], "nextLink": more})


def vault_answer(request: web.BaseRequest) -> web.StreamResponse:
    """Secrets, keys, certificates and their versions."""
    if request.path.endswith("/versions"):
        return version_list(request)
    _, kind, name, version = request.path.split("/")[:4]
    identifier = f"{VAULT}/{kind}/{name}/{version or 'latest0version'}"
    if kind == "keys":
        jwk = {"kid": identifier, "kty": "EC", "crv": "P-256", "key_ops": ["sign"]}
        return web.json_response({"key": {**jwk, "x": number(POINT.x), "y": number(POINT.y)}})
    if kind == "certificates":
        return web.json_response(
            {"id": identifier, "cer": base64.b64encode(LEAF.certificate.public_bytes(Encoding.DER)).decode()}
        )
    if name == "backed":
        content = {"contentType": "application/x-pkcs12", "kid": f"{VAULT}/keys/backed/1"}
        return web.json_response({"value": pfx(ROOT, MIDDLE), "id": identifier, **content})
    return secret_answer(request)


def objects(*entries: dict[str, str], **more: str | None) -> str:
    """Attributes with these objects."""
    return attributes(array(*entries), **more)


async def test_every_kind(bench: Bench) -> None:
    """A secret, a key, a certificate and a certificate with its key come as files, each version recorded once."""
    bench.vault.handler = vault_answer
    response = await bench.mount(
        objects(
            {"objectName": "s", "objectType": "secret"},
            {"objectName": "k", "objectType": "key", "objectAlias": "public.pem"},
            {"objectName": "c", "objectType": "cert"},
            {"objectName": "backed", "objectType": "secret", "objectAlias": "tls.pem", "filePermission": "0600"},
        )
    )
    files = {file.path: file.contents for file in response.files}
    assert list(files) == ["s", "public.pem", "c", "tls.pem"]
    assert files["public.pem"].startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert files["c"] == LEAF.pem
    assert files["tls.pem"] == KEY_PEM + LEAF.pem + MIDDLE.pem + ROOT.pem
    assert [one.id for one in response.object_version] == ["secret/s", "key/k", "cert/c", "secret/backed"]


async def test_a_history(bench: Bench) -> None:
    """Exactly the newest enabled versions, newest first, in a folder, over all pages of the list, for every kind."""
    bench.vault.handler = vault_answer
    entries = [
        {"objectName": name, "objectType": kind, "objectVersionHistory": "2"}
        for kind, name in (("secret", "s"), ("key", "k"), ("cert", "c"))
    ]
    response = await bench.mount(objects(*entries))
    assert [file.path for file in response.files] == ["s/0", "s/1", "k/0", "k/1", "c/0", "c/1"]
    versions = {one.id: one.version for one in response.object_version}
    assert versions == {
        f"{kind}/{name}/{index}": ("v3", "v2")[index]
        for kind, name in (("secret", "s"), ("key", "k"), ("cert", "c"))
        for index in (0, 1)
    }


async def test_a_history_from_a_disabled_version(bench: Bench) -> None:
    """A history that starts at a disabled version fails the mount and says which."""
    bench.vault.handler = vault_answer
    wanted = {"objectName": "s", "objectType": "secret", "objectVersion": "v4", "objectVersionHistory": "2"}
    assert "objectVersion:v4: version v4 is disabled" in await bench.refusal(objects(wanted))


async def test_a_version_list_that_leads_elsewhere(bench: Bench) -> None:
    """The token is never sent to another host that a list names as its next page."""
    bench.vault.handler = lambda _: web.json_response({"value": [], "nextLink": "http://169.254.169.254/x"})
    wanted = {"objectName": "s", "objectType": "secret", "objectVersionHistory": "2"}
    assert "goes on at another address" in await bench.refusal(objects(wanted))
    assert {path for path, _ in bench.vault.asked} == {"/secrets/s/versions?api-version=7.4"}


async def test_one_object_in_two_versions(bench: Bench) -> None:
    """Two versions of one object are recorded as two entries, so that rotation of either is seen."""
    response = await bench.mount(
        objects(
            {"objectName": "s", "objectType": "secret", "objectVersion": "old"},
            {"objectName": "s", "objectType": "secret", "objectAlias": "new"},
        )
    )
    assert {one.id: one.version for one in response.object_version} == {
        "secret/s": "old",
        "secret/s:new": "latest0version",
    }


async def test_the_nodes_identity(bench: Bench) -> None:
    """With useVMManagedIdentity the node's metadata service is asked for the named identity, nmi is not."""
    await bench.mount(attributes(usePodIdentity=None, useVMManagedIdentity="true"))
    ((path, headers),) = bench.imds.asked
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
    assert query["client_id"] == ["ae95a0e4-0000-0000-0000-000000005f1d"]
    assert query["resource"] == ["https://vault.azure.net"]
    assert headers["metadata"] == "true"
    assert bench.nmi.asked == []
    assert bench.vault.asked[0][1]["authorization"] == "Bearer vault-token"


def stack_file(folder: Path, url: str) -> str:
    """An environment file of a custom cloud whose sign-in address is ``url``; ARM's address is left out."""
    path = folder / "cloud.json"
    content = {"name": "AzureStackCloud", "activeDirectoryEndpoint": url, "keyVaultDNSSuffix": "vault.local"}
    path.write_text(json.dumps({**content, "keyVaultEndpoint": "https://vault.local"}))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "secrets", "form"),
    [
        (
            {"clientID": "app", SERVICE_ACCOUNT_TOKENS: tokens()},
            "{}",
            {"client_id": ["app"], "client_assertion": ["jwt"], "scope": ["https://vault.local/.default"]},
        ),
        (
            {},
            json.dumps({"clientid": "sp", "clientsecret": "pw"}),
            {"client_id": ["sp"], "client_secret": ["pw"], "scope": ["https://vault.local/.default"]},
        ),
        (
            {"tenantId": "adfs"},
            json.dumps({"clientid": "sp", "clientsecret": "pw"}),
            {"client_id": ["sp"], "client_secret": ["pw"], "resource": ["https://vault.local"]},
        ),
    ],
)
async def test_entra_id(
    bench: Bench, tmp_path: Path, changes: dict[str, str], secrets: str, form: dict[str, list[str]]
) -> None:
    """Workload identity and service principals sign in at the class's own cloud, in the form that takes."""
    cloud = stack_file(tmp_path, bench.entra.url)
    text = attributes(usePodIdentity=None, cloudName="AzureStackCloud", cloudEnvFileName=cloud, **changes)
    await bench.mount(text, secrets=secrets)
    assert urllib.parse.parse_qs(bench.entra.bodies[0]).items() >= form.items()
    tenant = changes.get("tenantId", "11111111-1111-1111-1111-111111111111")
    path = "/adfs/oauth2/token?api-version=1.0" if tenant == "adfs" else f"/{tenant}/oauth2/v2.0/token"
    assert bench.entra.asked[0][0] == path
    assert bench.vault.asked[0][1]["authorization"] == "Bearer vault-token"
    assert bench.nmi.asked == []


async def test_a_refused_sign_in_shows_no_secret(bench: Bench, tmp_path: Path) -> None:
    """What Entra ID answers is shown in one line, the secret that was sent is not."""
    body = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret.\r\nTrace ID: 1"}
    bench.entra.handler = lambda _: web.json_response(body, status=401)
    cloud = stack_file(tmp_path, bench.entra.url)
    text = attributes(usePodIdentity=None, cloudName="AzureStackCloud", cloudEnvFileName=cloud)
    refusal = await bench.refusal(text, secrets=json.dumps({"clientid": "sp", "clientsecret": "hidden-pw"}))
    assert "failed to get a token as the service principal of nodePublishSecretRef: invalid_client: AADSTS70" in refusal
    assert "hidden-pw" not in refusal
    assert len(bench.entra.asked) == 1


async def test_a_busy_sign_in_is_tried_again(bench: Bench) -> None:
    """A short trouble of the metadata service does not fail the mount."""
    answers = iter([web.json_response({"error": "busy"}, status=503, headers={"Retry-After": "0"})])
    bench.imds.handler = lambda request: next(answers, None) or aad_answer(request)
    await bench.mount(attributes(usePodIdentity=None, useVMManagedIdentity="true"))
    assert len(bench.imds.asked) == 2


async def test_the_callers_deadline(bench: Bench) -> None:
    """A mount gives up before the driver does and says so; what was asked for is not half done."""

    async def never(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    bench.vault.slow = never
    call = bench.channel.unary_unary(
        "/v1alpha1.CSIDriverProvider/Mount",
        request_serializer=provider_pb2.MountRequest.SerializeToString,
        response_deserializer=provider_pb2.MountResponse.FromString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(provider_pb2.MountRequest(attributes=attributes(), secrets="{}", permission="420"), timeout=1.0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "the driver's deadline came before" in (caught.value.details() or "")


def test_how_long_a_mount_may_take() -> None:
    """A long deadline leaves a second for the answer, a short one half of itself, none leaves it open."""
    assert (deadline(None), deadline(100.0), deadline(1.0)) == (None, 99.0, 0.5)
