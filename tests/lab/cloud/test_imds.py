"""The Instance Metadata Service."""

import asyncio
import base64
import io
import json

import aiohttp
import pytest
from tests.lab.cloud.conftest import APP1, APP2, ARM, KUBELET, TENANT, VAULT, VM, VMSS, Azure

from podidentity.lab.cloud import Faults
from podidentity.lab.cloud.seed import NicSeed

QUERY = f"api-version=2018-02-01&resource={VAULT}"


async def get_from(azure: Azure, source: str, path: str) -> tuple[int, dict[str, object]]:
    """A call from another address of loopback."""
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    session = aiohttp.ClientSession(connector=connector, headers={"Metadata": "true"})
    async with session, session.get(azure.running.imds_url + path) as reply:
        return reply.status, await reply.json()


async def test_the_answer_is_all_strings(azure: Azure) -> None:
    """Protects the eight fields and their type, on which SDKs in several languages rely."""
    status, answer = await azure.imds(QUERY)
    assert status == 200
    assert {name: value for name, value in answer.items() if name != "access_token"} == {
        "client_id": azure.client_id(KUBELET),
        "expires_in": "86400",
        "expires_on": "1800086400",
        "ext_expires_in": "86399",
        "not_before": "1800000000",
        "resource": VAULT,
        "token_type": "Bearer",
    }


async def test_the_machine_is_told_by_the_address(azure: Azure) -> None:
    """Protects the table of NICs: the narrowest network wins, a pod's address is its node's."""
    path = f"/metadata/identity/oauth2/token?{QUERY}"
    for source, mirid in (("127.0.0.1", KUBELET), ("127.0.1.7", KUBELET), ("127.0.0.2", VMSS)):
        status, answer = await get_from(azure, source, path)
        assert status == 200, answer
        claims = json.loads(base64.urlsafe_b64decode(str(answer["access_token"]).split(".")[1] + "=="))
        assert claims["xms_mirid"] == mirid
    assert (await get_from(azure, "127.0.9.9", path))[0] == 403
    kinds = azure.running.admin.counters()["imds"]["kinds"]  # type: ignore[index]  # a tree of numbers
    assert {kind: sum(paths.values()) for kind, paths in kinds.items()} == {"node": 2, "pod": 1, "unknown": 1}


async def test_nics_can_be_replaced(azure: Azure) -> None:
    """Protects nodes that come and go while the lab runs."""
    nic = NicSeed(cidr="127.0.0.1/32", resource_id=f"{VMSS}/virtualMachines/0", kind="pod")
    azure.running.admin.set_nics([nic])
    _, answer = await azure.imds("api-version=2021-02-01", path="/metadata/instance")
    assert answer["compute"]["name"] == "pool_0"
    assert (await get_from(azure, "127.0.1.7", "/metadata/versions"))[0] == 403


@pytest.mark.parametrize("selector", ["client_id", "object_id", "msi_res_id", "mi_res_id"])
async def test_every_selector_finds_its_identity(azure: Azure, selector: str) -> None:
    """Protects the four spellings of which identity is meant, in any case."""
    await azure.attach(VM, APP1)
    row = azure.running.world.identities[APP1.casefold()]
    value = {"client_id": row.client_id, "object_id": row.principal_id}.get(selector, APP1)
    status, answer = await azure.imds(f"{QUERY}&{selector}={value.upper()}")
    assert (status, answer.get("client_id")) == (200, row.client_id)
    status, answer = await azure.imds(f"{QUERY}&{selector}={value}0")
    assert (status, answer["error_description"]) == (400, "Identity not found")


async def test_which_identity_is_the_default(azure: Azure) -> None:
    """Protects the rule: the system-assigned, else the only user-assigned, else an error that says so."""
    assert (await azure.imds(QUERY))[1]["client_id"] == azure.client_id(KUBELET)
    await azure.attach(VM, APP1)
    status, answer = await azure.imds(QUERY)
    assert status == 400
    assert answer["error_description"].startswith("Multiple user assigned identities exist, please specify")
    await azure.arm("PATCH", VM, {"identity": {"type": "None"}})
    azure.time.now += 1
    assert (await azure.imds(QUERY))[1]["error_description"] == "Identity not found"
    await azure.arm(
        "PATCH", VMSS, {"identity": {"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {APP1: {}}}}
    )
    azure.time.now += 1
    _, answer = await get_from(azure, "127.0.0.2", f"/metadata/identity/oauth2/token?{QUERY}")
    assert answer["client_id"] == azure.running.world.hosts[VMSS.casefold()].identity.system_client


async def test_an_identity_serves_from_the_end_of_its_operation(azure: Azure) -> None:
    """Protects the wait between an accepted PATCH and the first token."""
    client = azure.client_id(APP1)
    await azure.arm("PATCH", VM, {"identity": {"type": "UserAssigned", "userAssignedIdentities": {APP1: {}}}})
    assert (await azure.imds(f"{QUERY}&client_id={client}"))[0] == 400
    azure.time.now += 0.2
    assert (await azure.imds(f"{QUERY}&client_id={client}"))[0] == 200
    azure.running.admin.detach(VM, APP1)
    assert (await azure.imds(f"{QUERY}&client_id={client}"))[0] == 400


@pytest.mark.parametrize(
    ("query", "headers", "text"),
    [
        (QUERY, {}, "Required metadata header not specified"),
        (QUERY, {"Metadata": "True"}, "Required metadata header not specified"),
        (QUERY, {"Metadata": "true", "X-Forwarded-For": "1.2.3.4"}, "The X-Forwarded-For header is not allowed"),
        ("api-version=2018-02-01", None, "Required query variable 'resource' is missing"),
        ("api-version=2018-02-01&resource=", None, "Required query variable 'resource' is missing"),
        (f"resource={VAULT}", None, "Required query variable 'api-version' is missing"),
        (f"api-version=2017-01-01&resource={VAULT}", None, "api-version '2017-01-01' is not supported"),
        (QUERY + f"&resource={ARM}", None, "Query parameter 'resource' is specified more than once"),
        (
            QUERY + "&client_id=a&msi_res_id=b",
            None,
            "Only one of client_id, object_id, msi_res_id, mi_res_id may be specified",
        ),
        (QUERY + "&bypass_cache=no", None, "bypass_cache must be 'true'"),
    ],
)
async def test_requests_that_are_refused(azure: Azure, query: str, headers: dict[str, str] | None, text: str) -> None:
    """Protects the rules of the endpoint, each with its words."""
    status, answer = await azure.imds(query, headers=headers)
    assert (status, answer) == (400, {"error": "invalid_request", "error_description": text})


async def test_an_unknown_resource(azure: Azure) -> None:
    """Protects the error for a resource that the tenant does not have."""
    status, answer = await azure.imds("api-version=2018-02-01&resource=https://nothing.example")
    assert (status, answer["error"]) == (400, "invalid_resource")
    assert "AADSTS500011" in answer["error_description"]


async def test_paths_and_methods(azure: Azure) -> None:
    """Protects 404 for what is not served, 405 for anything but GET, and the case rule of the path."""
    assert await azure.imds("", path="/metadata/identity") == (404, {"error": "Not Found"})
    assert (await azure.imds(QUERY, path="/metadata/Identity/oauth2/token"))[0] == 404
    assert (await azure.imds(QUERY, path="/METADATA/identity/oauth2/token"))[0] == 200
    assert (await azure.imds(QUERY, method="POST"))[0] == 405
    assert await azure.imds("", path="/metadata/identity/info") == (200, {"tenantId": TENANT})
    assert "2018-02-01" in (await azure.imds("", path="/metadata/versions"))[1]["apiVersions"]


async def test_the_instance_document(azure: Azure) -> None:
    """Protects the document, its leaves, and the error that lists the newest versions."""
    status, answer = await azure.imds("api-version=2021-02-01", path="/metadata/instance")
    assert (status, answer["compute"]["resourceId"]) == (200, VM)
    status, answer = await azure.imds("", path="/metadata/instance")
    assert (status, len(answer["newest-versions"])) == (400, 3)
    leaf = "/metadata/instance/compute/name?api-version=2021-02-01"
    async with azure.session.get(f"{azure.running.imds_url}{leaf}&format=text", headers={"Metadata": "true"}) as reply:
        assert await reply.text() == "vm0"
    assert (await azure.imds("api-version=2021-02-01", path="/metadata/instance/compute/name"))[0] == 404


async def test_tokens_are_cached(azure: Azure) -> None:
    """Protects IMDS' cache: the same token until shortly before its end, and bypass_cache."""
    _, first = await azure.imds(QUERY)
    azure.time.now += 86_000
    _, second = await azure.imds(QUERY)
    assert second["access_token"] == first["access_token"]
    assert second["expires_in"] == "400"
    azure.time.now += 101
    _, third = await azure.imds(QUERY)
    assert third["access_token"] != first["access_token"]
    azure.time.now += 1
    assert (await azure.imds(f"{QUERY}&bypass_cache=true"))[1]["access_token"] != third["access_token"]


async def test_an_identity_created_anew(azure: Azure) -> None:
    """Protects the trap of stale ids: IMDS may serve the old identity's token under the same resource id."""
    await azure.attach(VM, APP1)
    old = azure.client_id(APP1)
    query = f"{QUERY}&msi_res_id={APP1}"
    await azure.imds(query)
    await azure.arm("DELETE", APP1)
    assert (await azure.imds(f"{query}&bypass_cache=true"))[1]["error_description"] == "Identity not found"
    await azure.arm("PUT", APP1, {})
    await azure.attach(VM, APP1)
    assert (await azure.imds(query))[1]["client_id"] == azure.client_id(APP1)
    azure.running.admin.set_faults(imds_stale_ids=True)
    await azure.arm("DELETE", APP1)
    newer = azure.client_id(KUBELET)
    assert newer != old
    await azure.arm("PUT", APP1, {})
    await azure.attach(VM, APP1)
    assert (await azure.imds(query))[1]["client_id"] != azure.client_id(APP1)


async def test_twenty_a_second(azure: Azure) -> None:
    """Protects the limit for identity requests, which other requests do not share."""
    statuses = [(await azure.imds(QUERY))[0] for _ in range(21)]
    assert statuses == [200] * 20 + [429]
    assert (await azure.imds("", path="/metadata/versions"))[0] == 200
    azure.time.now += 0.05
    assert (await azure.imds(QUERY))[0] == 200
    azure.running.admin.set_faults(imds_limits=False)
    assert (await azure.imds(QUERY))[0] == 200


class TestSlow:
    """Tokens that take a while."""

    @pytest.fixture
    def faults(self) -> Faults:
        """A tenth of a second for a token that is not cached."""
        return Faults(imds_delay=0.1)

    async def test_five_at_a_time(self, azure: Azure) -> None:
        """Protects the limit of concurrent requests, which counts those that wait for a token only."""
        answers = await asyncio.gather(*(azure.imds(QUERY) for _ in range(8)))
        assert sorted(status for status, _ in answers) == [200] * 5 + [429] * 3
        assert (await azure.imds(QUERY))[0] == 200


async def test_throttled_by_order(azure: Azure) -> None:
    """Protects the switch that makes IMDS answer 429 with Retry-After."""
    azure.running.admin.set_faults(imds_status=429, imds_retry_after=7)
    url = f"{azure.running.imds_url}/metadata/identity/oauth2/token?{QUERY}"
    async with azure.session.get(url, headers={"Metadata": "true"}) as reply:
        assert (reply.status, reply.headers["Retry-After"]) == (429, "7")
        assert (await reply.json())["error_description"] == "Temporarily throttled, too many requests"
    assert (await azure.imds("", path="/metadata/identity/info"))[0] == 200


async def test_an_absolute_target_and_a_broken_request(azure: Azure) -> None:
    """Protects the listener from requests that no client library sends."""
    host, port = azure.running.imds_url.removeprefix("http://").split(":")
    for target, expected in (("http://169.254.169.254/metadata/versions", b"200"), ("\x00", b"400")):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nMetadata: true\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        assert line.split(b" ")[1] == expected


async def test_app2_is_not_on_any_machine(azure: Azure) -> None:
    """Protects the simplest refusal: an identity that exists but is not attached."""
    status, answer = await azure.imds(f"{QUERY}&client_id={azure.client_id(APP2)}")
    assert (status, answer["error_description"]) == (400, "Identity not found")


async def test_the_names_below_a_node(azure: Azure) -> None:
    """Protects shell scripts that walk the document as text, and paths that lead nowhere."""
    url = f"{azure.running.imds_url}/metadata/instance"
    headers, query = {"Metadata": "true"}, "?api-version=2021-02-01&format=text"
    async with azure.session.get(f"{url}/network/interface/0/{query}", headers=headers) as reply:
        assert (await reply.text()).split() == ["ipv4/", "ipv6/", "macAddress"]
    assert (await azure.imds("api-version=2021-02-01", path="/metadata/instance/nothing"))[0] == 404
    assert (await azure.imds("", path="/metadata/scheduledevents"))[1]["Events"] == []


@pytest.mark.parametrize("after", [False, True])
async def test_a_connection_that_breaks(azure: Azure, after: bool) -> None:
    """Protects clients of IMDS from nothing but errors with a body."""
    azure.running.admin.set_faults(rules=[{"service": "imds", "drop": True, "after": after, "times": 2}])
    with pytest.raises(aiohttp.ClientError):  # after one attempt more, which this client makes for a GET
        await azure.imds(QUERY)
    assert (await azure.imds(QUERY))[0] == 200


async def test_a_body_without_end(azure: Azure) -> None:
    """Protects the simulator's memory: a body over the limit is refused on every listener."""
    for base in (azure.running.imds_url, azure.running.https_url):
        async with azure.session.post(base + "/x", data=io.BytesIO(b"x" * (4 * 1024 * 1024 + 1))) as reply:
            assert reply.status == 413
