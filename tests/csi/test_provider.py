"""The provider as the driver sees it."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from aiohttp import web
from tests.csi.conftest import VERSION, Bench, attributes

from podidentity import __version__
from podidentity.csi.proto import provider_pb2


async def test_walkthrough(bench: Bench) -> None:
    """The walkthrough's class gives one file with the secret's bytes, nothing added, and asks nmi and vault once."""
    response = await bench.mount()
    assert [(f.path, f.mode, f.contents) for f in response.files] == [("kvs-test01", 0o644, b"e+9qBwdjC<q6<P_n")]
    assert [(v.id, v.version) for v in response.object_version] == [("secret/kvs-test01", VERSION)]
    assert response.error.code == ""
    ((target, headers),) = bench.nmi.asked
    assert target == "/host/token/?resource=https%3A%2F%2Fvault.azure.net"
    assert (headers["podns"], headers["podname"]) == ("default", "nginx-secrets-store-inline")
    assert "metadata" not in headers
    ((target, headers),) = bench.vault.asked
    assert target == f"/secrets/kvs-test01/{VERSION}?api-version=7.4"
    assert headers["authorization"] == "Bearer pod-token"


async def test_version_and_health(bench: Bench) -> None:
    """Version answers the contract's texts and the standard health check is serving."""
    call = bench.channel.unary_unary(
        "/v1alpha1.CSIDriverProvider/Version",
        request_serializer=provider_pb2.VersionRequest.SerializeToString,
        response_deserializer=provider_pb2.VersionResponse.FromString,
    )
    answer = await call(provider_pb2.VersionRequest(version="v1alpha1"), timeout=10)
    assert (answer.version, answer.runtime_name) == ("v1alpha1", "secrets-store-csi-driver-provider-azure")
    assert answer.runtime_version == __version__
    assert await bench.health() == 1


async def test_socket_is_private(bench: Bench) -> None:
    """Only the owner can talk to the socket."""
    assert stat.S_IMODE(bench.socket.stat().st_mode) & 0o077 == 0


async def test_k9_http_health_and_metrics(bench: Bench) -> None:
    """Health dials the socket itself; the metrics carry the original's names and no object's name."""
    await bench.mount()
    await bench.refusal(attributes(keyvaultName=None))
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{bench.running.healthz_port}/healthz") as response:
            assert (response.status, await response.text()) == (200, "ok")
        async with session.get(f"http://127.0.0.1:{bench.running.prometheus_port}/metrics") as response:
            text = await response.text()
    assert (
        'keyvault_request_count{error="",object_name="",object_type="secret",os_type="linux",provider="azure"' in text
    )
    assert 'grpc_code="OK"' in text
    assert 'grpc_code="Unknown"' in text
    assert "kvs-test01" not in text


async def test_many_objects(bench: Bench) -> None:
    """Every object gives its file in the order of the class, with alias, folder and mode; its version counts once."""
    objects = """
array:
  - |
    objectName: one
    objectType: secret
  - |
    objectName: two
    objectAlias: sub/two.txt
    objectType: secret
    objectVersion: 1234e56
    filePermission: 0600
  - |
    objectName: one
    objectAlias: first
    objectType: secret
    objectVersion: latest
"""
    response = await bench.mount(attributes(objects))
    assert [(file.path, file.mode) for file in response.files] == [("one", 420), ("sub/two.txt", 0o600), ("first", 420)]
    assert response.files[1].contents == b"value of two"
    assert [(v.id, v.version) for v in response.object_version] == [
        ("secret/one", "latest0version"),
        ("secret/two", "1234e56"),
    ]
    assert sorted(target for target, _ in bench.vault.asked) == [
        "/secrets/one/?api-version=7.4",
        "/secrets/one/?api-version=7.4",
        "/secrets/two/1234e56?api-version=7.4",
    ]
    assert len(bench.nmi.asked) == 1


async def test_partial_failure_mounts_nothing(bench: Bench) -> None:
    """One object that cannot be had fails the mount; every failed one is named, none that worked is given."""

    def forbidden(request: web.BaseRequest) -> web.StreamResponse:
        if "bad" in request.path:
            error = {"code": "Forbidden", "message": "no right", "innererror": {"code": "ForbiddenByRbac"}}
            return web.json_response({"error": error}, status=403)
        return web.json_response({"value": "hush", "id": "https://x/secrets/good/v"})

    bench.vault.handler = forbidden
    entry = "  - |\n    objectName: {}\n    objectType: secret\n"
    text = await bench.refusal(attributes("array:\n" + "".join(entry.format(n) for n in ("bad1", "good", "bad2"))))
    assert text == (
        "failed to mount objects, error: "
        "failed to get objectType:secret, objectName:bad1, objectVersion:: 403 ForbiddenByRbac: no right; "
        "failed to get objectType:secret, objectName:bad2, objectVersion:: 403 ForbiddenByRbac: no right"
    )


async def test_transient_vault_errors_are_retried(bench: Bench) -> None:
    """A vault that is briefly busy is asked again within the same mount; one that wants minutes is not waited for."""
    answers = iter([503, 200])

    def flaky(request: web.BaseRequest) -> web.StreamResponse:
        if next(answers) != 200:
            return web.Response(status=503, headers={"Retry-After": "0"})
        return web.json_response({"value": "v", "id": "https://x/secrets/a/1"})

    bench.vault.handler = flaky
    assert (await bench.mount()).files[0].contents == b"v"
    bench.vault.handler = lambda _: web.Response(status=429, headers={"Retry-After": "60"})
    bench.vault.asked.clear()
    assert "429" in await bench.refusal()
    assert len(bench.vault.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            404,
            "getting assigned identities failed",
            "status code: 404, response body: getting assigned identities failed",
        ),
        (503, "", "nmi response failed with status code: 503"),
        (200, "{}", "nmi did not return expected values in response: token and clientid"),
        (200, '{"token": {"access_token": "x"}}', "nmi did not return expected values"),
        (200, '{"token": {"access_token": ""}, "clientid": "c"}', "nmi did not return expected values"),
        (200, "garbage", "nmi answered with something that is not a token"),
        (200, "x" * 300_000, "the answer is larger than"),
        (302, "", "status code: 302"),
    ],
)
async def test_nmi_refusals(bench: Bench, status: int, body: str, expected: str) -> None:
    """What nmi says reaches the pod's event; without a token the vault is not asked."""
    bench.nmi.handler = lambda _: web.Response(status=status, text=body, headers={"Location": "http://127.0.0.1:1/"})
    text = await bench.refusal()
    assert text.startswith("failed to mount objects, error: ")
    assert expected in text
    assert bench.vault.asked == []


async def test_nmi_expiry_as_number(bench: Bench) -> None:
    """A token whose times are numbers is fine."""
    body = {"token": {"access_token": "t", "expires_on": 1709895997}, "clientid": "c"}
    bench.nmi.handler = lambda _: web.json_response(body)
    assert len((await bench.mount()).files) == 1


async def test_too_large_for_the_driver(bench: Bench) -> None:
    """Files beyond the driver's 4 MiB are refused with the reason, not lost in transit."""
    big = {"value": "x" * (4 * 1024 * 1024 - 100_000), "id": "https://x/secrets/a/1"}
    bench.vault.handler = lambda _: web.json_response(big)
    objects = "array:\n" + "".join(f"  - |\n    objectName: {n}\n    objectType: secret\n" for n in "ab")
    assert "takes at most 4 MiB" in await bench.refusal(attributes(objects))


@pytest.mark.parametrize(
    ("changes", "secrets", "permission", "expected"),
    [
        ({}, "", "420", "failed to unmarshal secrets, error: "),
        ({}, "{}", "", "failed to unmarshal file permission, error: "),
        ({"keyvaultName": "kv"}, "{}", "420", 'Invalid vault name: "kv", must be between 3 and 24 chars'),
        ({"cloudName": "Mars"}, "{}", "420", "cloudName Mars is not valid"),
        ({"objects": "array: []"}, "{}", "420", "the array is empty"),
    ],
)
async def test_refusals(bench: Bench, changes: dict[str, str], secrets: str, permission: str, expected: str) -> None:
    """What is wrong with a class is told before anybody is asked for anything."""
    text = await bench.refusal(attributes(**changes), secrets=secrets, permission=permission)
    assert expected in text
    assert bench.vault.asked == []


@pytest.mark.parametrize("kind", ["device", "fifo", "proc", "large", "folder", "missing"])
async def test_environment_file_is_a_small_file(bench: Bench, tmp_path: Path, kind: str) -> None:
    """A class cannot make the provider read without end, or wait, by naming something that is no small file."""
    path = tmp_path / "named"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b" " * 100_000)
    elif kind == "folder":
        path.mkdir()
    paths = {"device": "/dev/zero", "proc": "/proc/kmsg"}
    asked = attributes(cloudName="AzureStackCloud", cloudEnvFileName=paths.get(kind, str(path)))
    assert "cloudName AzureStackCloud is not valid" in await bench.refusal(asked)
    assert bench.nmi.asked == []


async def test_long_errors_fit_into_grpc(bench: Bench) -> None:
    """An error text of any length and script reaches the driver as an error of that mount."""
    bench.nmi.handler = lambda _: web.Response(status=500, text="ü€" * 5000)
    assert "status code: 500" in await bench.refusal()


async def test_cancelled_mount(bench: Bench) -> None:
    """A driver that gives up frees the provider: the next mount works."""
    gate = asyncio.Event()

    async def never(request: web.BaseRequest) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    plain, bench.nmi.slow = bench.nmi.slow, never
    call = asyncio.create_task(bench.mount())
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    bench.nmi.slow = plain
    gate.set()
    assert len((await bench.mount()).files) == 1


async def test_concurrent_mounts(bench: Bench) -> None:
    """Twenty mounts at once each get their own files."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bench.mount()) for _ in range(20)]
    assert all(task.result().files[0].contents == b"e+9qBwdjC<q6<P_n" for task in tasks)


async def test_unknown_method(bench: Bench) -> None:
    """A method the API does not have is unimplemented, the provider goes on."""
    call = bench.channel.unary_unary("/v1alpha1.CSIDriverProvider/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert await bench.health() == 1
