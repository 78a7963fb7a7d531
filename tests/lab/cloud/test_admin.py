"""What the lab's owner may do: counters, faults, by-hand changes; over the socket and as methods."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.lab.cloud.conftest import APP1, ARM, CONTROLLER, GROUP, KUBELET, VAULT, VM, VMSS, Azure

from podidentity.lab.cloud import AdminClient, AdminError, CloudConfig, Running, Seed, parse_seed, serve


@pytest.fixture
async def owner(tmp_path: Path, seed: Seed, signing_key: str) -> AsyncIterator[tuple[Running, AdminClient]]:
    """A simulated Azure with a socket, and a client on it."""
    socket = tmp_path / "run" / "admin.sock"
    config = CloudConfig(state_dir=tmp_path / "state", seed=seed, admin_socket=socket, new_key=lambda: signing_key)
    async with serve(config) as running, AdminClient(socket) as client:
        assert socket.stat().st_mode & 0o777 == 0o600
        yield running, client


async def test_everything_over_the_socket(owner: tuple[Running, AdminClient]) -> None:
    """Protects the owner's API as it is documented, request by request."""
    running, client = owner
    pair = {"host": VM, "identity": APP1}
    assert APP1.casefold() in str(await client.call("POST", "/identities/attach", pair)).casefold()
    assert APP1.casefold() not in str(await client.call("POST", "/identities/detach", pair)).casefold()
    secret = await client.call("PUT", "/vaults/kv1/secrets/kvs-test01", {"value": "new"})
    assert str(secret["id"]).endswith(str(secret["version"]))
    await client.call("PUT", f"/service-principals/{CONTROLLER}", {"secrets": ["x"]})
    token = await client.call("POST", "/tokens", {"resource": VAULT, "lifetime": 60})
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    url = f"{running.vault_url('kv1')}/secrets/kvs-test01?api-version=7.4"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        assert (await reply.json())["value"] == "new"
    assert (await client.call("PUT", "/faults", {"imds_status": 429}))["imds_status"] == 429
    assert (await client.call("GET", "/faults"))["imds_status"] == 429
    assert (await client.call("DELETE", "/faults"))["imds_status"] == 0
    assert (await client.call("GET", "/counters"))["vault"]["total"] == 1  # type: ignore[index]  # a tree of numbers
    await client.call("POST", "/counters/reset")
    assert (await client.call("GET", "/counters"))["vault"]["total"] == 0  # type: ignore[index]  # a tree of numbers
    await client.call("PUT", "/nics", [{"cidr": "10.0.0.0/8", "resourceId": VM, "kind": "pod"}])
    await client.call("POST", "/seed", {"identities": [{"name": "app9", "resourceGroup": "rg-apps"}]})
    await client.call("POST", "/hosts/delete", {"host": VM})
    state = await client.call("GET", "/state")
    assert state["nic"] == []
    assert "app9" in str(state["identity"])


async def test_azure_through_the_socket(owner: tuple[Running, AdminClient], tmp_path: Path) -> None:
    """Protects tools outside the lab's network: the host name chooses the service, with its own rules."""
    running, _ = owner
    headers = {"Host": "management.azure.com"}
    connector = aiohttp.UnixConnector(path=str(tmp_path / "run" / "admin.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"http://lab{VM}?api-version=2024-07-01"
        async with session.get(url, headers=headers) as reply:
            assert reply.status == 401
        headers["Authorization"] = f"Bearer {running.admin.mint_token(ARM)}"
        async with session.get(url, headers=headers) as reply:
            assert (await reply.json())["id"] == VM


async def test_the_state_shows_no_credentials(owner: tuple[Running, AdminClient]) -> None:
    """Protects logs and bug reports that quote the state."""
    _, client = owner
    text = str(await client.call("GET", "/state"))
    for hidden in ("PRIVATE KEY", "s3cret", "e+9qBwdjC<q6<P_n"):
        assert hidden not in text
    assert "kvs-test01" in text


@pytest.mark.parametrize(
    ("method", "path", "body", "text"),
    [
        ("PUT", "/faults", {"nonsense": 1}, "nonsense"),
        ("PUT", "/faults", {"arm_delay_vm": "x"}, "arm_delay_vm"),
        ("PUT", "/faults", {"rules": [{"service": "arm", "path": "("}]}, "not a regular expression"),
        ("PUT", "/faults", [], "object"),
        ("POST", "/identities/detach", {"host": VM + "x", "identity": APP1}, "there is no host"),
        ("POST", "/identities/attach", {"host": VM, "identity": "x"}, "there is no identity"),
        ("POST", "/identities/attach", {"host": VM}, "identity"),
        ("PUT", "/vaults/none/secrets/s", {"value": "x"}, "there is no vault"),
        ("PUT", "/service-principals/none", {}, "there is no service principal"),
        ("POST", "/tokens", {"resource": ARM, "clientId": "x"}, "there is no principal"),
        ("PUT", "/nics", [{"cidr": "x", "resourceId": VM}], "x"),
        ("PUT", "/nics", [{"cidr": "10.0.0.0/8", "resourceId": VM + "x"}], "there is no machine"),
        ("PUT", "/nics", [{"cidr": "10.0.0.0/8", "resourceId": VMSS + "/virtualMachines/a"}], "number"),
        ("POST", "/seed", {"roleAssignments": [{"principal": "nobody", "role": "Reader"}]}, "there is no principal"),
        ("POST", "/seed", {"roleAssignments": [{"principal": "app1", "role": "King"}]}, "there is no role"),
        ("GET", "/nothing", None, "there is no /nothing"),
        ("POST", "/state", None, "does not take POST"),
    ],
)
async def test_what_cannot_be_done(
    owner: tuple[Running, AdminClient], method: str, path: str, body: object, text: str
) -> None:
    """Protects scenario authors: a mistake is told in one line that names it."""
    with pytest.raises(AdminError, match=text) as caught:
        await owner[1].call(method, path, body)
    assert "\n" not in str(caught.value)


async def test_counters_name_hosts_paths_and_sources(azure: Azure) -> None:
    """Protects what the demo proves with numbers: PATCHes of a host, requests of pods and nodes."""
    await azure.attach(VM, APP1)
    await azure.imds(f"api-version=2018-02-01&resource={VAULT}&msi_res_id={APP1}")
    await azure.vault("kv1", "/secrets/kvs-test01")
    counters = azure.running.admin.counters()
    assert counters["arm"] == {
        "total": 1,
        "operations": {"PATCH Microsoft.Compute/virtualMachines": 1},
        "status": {"200": 1},
        "resources": {VM.casefold(): {"PATCH": 1}},
    }
    path = "/metadata/identity/oauth2/token"
    assert counters["imds"] == {
        "total": 1,
        "status": {"200": 1},
        "kinds": {"node": {path: 1}},
        "peers": {"127.0.0.1": {path: 1}},
    }
    assert counters["vault"]["secrets"] == {"kv1/secrets/kvs-test01": {"GET": 1}}  # type: ignore[index]  # a tree
    assert counters["entra"] == {"total": 0, "status": {}}


async def test_a_rule_answers_instead_of_the_service(azure: Azure) -> None:
    """Protects injected errors: as often as asked, with their headers, for the requests that fit only."""
    rule = {
        "service": "arm",
        "method": "PATCH",
        "path": "virtualMachines/vm0",
        "status": 429,
        "code": "OperationNotAllowed",
        "headers": {"Retry-After": "20"},
        "times": 2,
    }
    azure.running.admin.set_faults(rules=[rule])
    body = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {APP1: {}}}}
    assert (await azure.arm("GET", VM))[0] == 200
    for _ in range(2):
        status, answer, headers = await azure.arm("PATCH", VM, body)
        assert (status, answer["error"]["code"], headers["Retry-After"]) == (429, "OperationNotAllowed", "20")
    assert (await azure.arm("PATCH", VM, body))[0] == 200


@pytest.mark.parametrize("after", [False, True])
async def test_a_connection_that_breaks(azure: Azure, after: bool) -> None:
    """Protects the worst case for a writer: the answer is lost, and the write may or may not have happened."""
    azure.running.admin.set_faults(
        rules=[{"service": "arm", "method": "PATCH", "drop": True, "after": after, "times": 1}]
    )
    body = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {APP1: {}}}}
    with pytest.raises(aiohttp.ClientError):
        await azure.arm("PATCH", VM, body)
    azure.time.now += 1
    _, host, _ = await azure.arm("GET", VM)
    assert (len(host["identity"]["userAssignedIdentities"]) == 2) is after


async def test_a_slow_service(azure: Azure) -> None:
    """Protects timeouts of clients: a rule delays, others are answered meanwhile."""
    azure.running.admin.set_faults(rules=[{"service": "imds", "path": "token", "delay": 0.3, "status": 500}])
    slow = asyncio.create_task(azure.imds("x=1"))
    await azure.imds("", path="/metadata/versions")
    assert not slow.done()
    assert (await slow)[0] == 500


async def test_planting_more_keeps_what_hosts_have(azure: Azure) -> None:
    """Protects scaling a pool: the scale set keeps its identities, only the instances change."""
    await azure.attach(VMSS, APP1)
    part = '{"scaleSets": [{"name": "pool", "resourceGroup": "rg-nodes", "instances": 0}]}'
    azure.running.admin.plant(parse_seed(part))
    _, host, _ = await azure.arm("GET", VMSS)
    assert host["sku"]["capacity"] == 0
    assert len(host["identity"]["userAssignedIdentities"]) == 1
    assert (await azure.arm("GET", f"{VMSS}/virtualMachines/0"))[0] == 404


async def test_a_second_subscription(azure: Azure) -> None:
    """Protects scenarios with two subscriptions: the same names are other hosts."""
    other = "55555555-5555-5555-5555-555555555555"
    group = f'{{"name": "rg-Nodes", "subscriptionId": "{other}"}}'
    vm = f'{{"name": "vm0", "resourceGroup": "rg-Nodes", "subscriptionId": "{other}"}}'
    azure.running.admin.plant(parse_seed(f'{{"resourceGroups": [{group}], "vms": [{vm}]}}'))
    path = VM.replace(GROUP.split("/")[2], other)
    _, host, _ = await azure.arm("GET", path)
    assert (host["id"], "identity" in host) == (path, False)
    _, host, _ = await azure.arm("GET", VM)
    assert KUBELET.casefold() in str(host["identity"]).casefold()
