"""Change one thing and it fails for the right reason, which is said where people look."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.e2e.conftest import new_lab
from tests.e2e.stage import ARM, DEFAULT, MERGE, QUICK_NMI, VAULT, Stage, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    """A lab whose mic has its roles on two resource groups only, and whose nmi says no after seconds."""
    async with new_lab() as lab:
        stage = Stage(lab)
        await stage.lift_limits()
        await stage.assign_roles()
        await stage.install(nmi=QUICK_NMI)
        yield stage


async def test_an_identity_without_the_operator_role(stage: Stage) -> None:
    """Pod and binding hear which role is missing on which identity; the pod gets nothing until the role is given."""
    other = await stage.identity("stranger", group=await stage.group("rsg-elsewhere"))
    await stage.pod("wants-stranger", label="stranger-binding")
    for kind, name in (("Pod", "wants-stranger"), ("AzureIdentityBinding", "stranger-binding")):
        told = await stage.hears(kind, name, "binding apply error", "'Managed Identity Operator'")
        assert other.id.casefold() in told.message.casefold()
    await stage.ready("wants-stranger")
    reply = await stage.ask("wants-stranger")
    assert (reply.status, reply.token) == (404, "")
    assert "in ASSIGNED state failed after" in reply.body
    assert other.id.casefold() not in await stage.attached()
    await stage.lab.azure.assign_role(stage.lab.spec.kubelet_principal_id, "Managed Identity Operator", other.id)
    await stage.hears("Pod", "wants-stranger", "binding applied")
    assert (await stage.ask("wants-stranger")).token


async def test_without_the_machine_role(stage: Stage) -> None:
    """When mic may not change the scale set, the Event names that role and that scale set, and mic recovers."""
    spec, azure = stage.lab.spec, stage.lab.azure
    role = "Virtual Machine Contributor"
    assignment = await azure.assign_role(spec.kubelet_principal_id, role, spec.node_group_scope)
    await azure.arm("DELETE", assignment, "2022-04-01")
    await stage.identity("machines")
    await stage.pod("wants-machines", label="machines-binding")
    for kind, name in (("Pod", "wants-machines"), ("AzureIdentityBinding", "machines-binding")):
        await stage.hears(kind, name, "binding apply error", f"'{role}'", spec.scale_set_id)
    await stage.ready("wants-machines")
    assert (await stage.ask("wants-machines")).status == 404
    await azure.assign_role(spec.kubelet_principal_id, role, spec.node_group_scope)
    await stage.hears("Pod", "wants-machines", "binding applied")
    assert (await stage.ask("wants-machines")).token


async def test_a_binding_of_another_selector(stage: Stage) -> None:
    """A label that no binding selects gets nothing, the refusal says so, and only this pod is concerned."""
    await stage.identity("picky", selector="picky-selector")
    await stage.pod("right-label", label="picky-selector")
    await stage.pod("wrong-label", label="picky-binding")
    await stage.ready("right-label")
    await stage.ready("wrong-label")
    reply = await stage.ask("wrong-label")
    assert (reply.status, reply.token) == (404, "")
    assert "getting assigned identities for pod default/wrong-label in CREATED state failed" in reply.body
    await stage.hears("Pod", "wrong-label", "binding missing", "has the selector picky-binding")
    assert (await stage.ask("right-label")).token


async def test_a_label_removed_while_the_pod_runs(stage: Stage) -> None:
    """Before: the mounted file follows the vault. After: the next token is refused and the file no longer follows."""
    first, second, third = (secrets.token_urlsafe(12) for _ in range(3))
    identity = await stage.identity("leaver")
    vault = await stage.vault(identity)
    await stage.lab.azure.set_secret(vault, "leaver", first)
    await stage.secret_class("leaver", identity, "leaver")
    await stage.pod("leaver", label="leaver-binding", mount="leaver")
    await stage.ready("leaver")
    assert await stage.file("leaver", "leaver") == first
    assert (await stage.ask("leaver")).token

    await stage.lab.azure.set_secret(vault, "leaver", second)

    async def rotated() -> bool:
        return await stage.file("leaver", "leaver") == second

    await until(rotated, "the file follows the vault")

    await stage.call(
        "PATCH", f"{DEFAULT}/pods/leaver", {"metadata": {"labels": {"aadpodidbinding": None}}}, content_type=MERGE
    )

    async def refused() -> bool:
        return (await stage.ask("leaver")).status == 404

    assert await until(refused, "the token is refused") < 5
    assert "pod default/leaver has no label aadpodidbinding" in (await stage.ask("leaver")).body
    await stage.lab.azure.set_secret(vault, "leaver", third)
    before = sum(one.count for one in await stage.told("Pod", "leaver", "MountRotationFailed"))

    async def failed_again() -> bool:
        told = await stage.told("Pod", "leaver", "MountRotationFailed")
        return sum(one.count for one in told) >= before + 2 and "has no label aadpodidbinding" in told[-1].message

    await until(failed_again, "rotation fails and says why")
    assert await stage.file("leaver", "leaver") == second


async def test_a_token_for_another_audience(stage: Stage) -> None:
    """Key Vault refuses a token that was asked for something else, in its own words."""
    identity = await stage.identity("audience")
    vault = await stage.vault(identity)
    await stage.lab.azure.set_secret(vault, "audience", secrets.token_urlsafe(12))
    await stage.pod("audience", label="audience-binding")
    await stage.ready("audience")
    url = f"https://{vault}.vault.azure.net/secrets/audience?api-version=7.4"
    wrong = await stage.get(url, "audience", Authorization=f"Bearer {(await stage.ask('audience', ARM)).token}")
    assert wrong.status == 401
    assert "AKV10022: Invalid audience" in wrong.body
    right = await stage.get(url, "audience", Authorization=f"Bearer {(await stage.ask('audience', VAULT)).token}")
    assert right.status == 200


async def test_a_vault_without_an_access_rule(stage: Stage) -> None:
    """The vault's 403 reaches the Event a person reads, the pod does not start; with the rule it does."""
    identity = await stage.identity("outsider")
    vault = await stage.vault()
    await stage.lab.azure.set_secret(vault, "outsider", "x")
    await stage.secret_class("outsider", identity, "outsider")
    await stage.pod("outsider", label="outsider-binding", mount="outsider")
    told = await stage.hears("Pod", "outsider", "FailedMount", "403 AccessDenied", "not have secrets get permission")
    assert "outsider" in told.message
    pod = await stage.call("GET", f"{DEFAULT}/pods/outsider")
    assert pod["status"]["phase"] == "Pending"
    await stage.vault(identity)
    await stage.ready("outsider")
    assert await stage.file("outsider", "outsider") == "x"


async def test_objects_that_make_no_sense(stage: Stage) -> None:
    """A broken identity and a binding to none are told on the objects; the pods beside them are served."""
    await stage.declare("broken", "/not/an/id", "11111111-1111-4111-8111-111111111111", "shared")
    await stage.bind("dangling", "nowhere", "shared")
    await stage.identity("sound", selector="shared")
    await stage.pod("mixed", label="shared")
    await stage.hears("AzureIdentity", "broken", "identity malformed", "spec.resourceID '/not/an/id'")
    for kind, name in (("AzureIdentityBinding", "dangling"), ("Pod", "mixed")):
        await stage.hears(kind, name, "identity missing", "default/nowhere")
    await stage.hears("Pod", "mixed", "binding applied")
    await stage.ready("mixed")
    assert (await stage.ask("mixed")).token


async def test_an_identity_taken_off_by_hand(stage: Stage) -> None:
    """The metadata service refuses at once; mic, told to compare often, puts the identity back."""
    identity = await stage.identity("taken")
    await stage.pod("taken", label="taken-binding")
    await stage.ready("taken")
    assert (await stage.ask("taken")).token
    host = {"host": stage.lab.spec.scale_set_id, "identity": identity.id}
    await stage.lab.azure.call("POST", "/identities/detach", host)
    assert identity.id.casefold() not in await stage.attached()
    reply = await stage.ask("taken", "https://storage.azure.com/")
    assert (reply.status, json.loads(reply.body)["error_description"]) == (400, "Identity not found")
    assert (await stage.ask("taken")).token, "a token handed out before lives on: the cache is not asked again"

    flags = [
        {
            "op": "add",
            "path": "/spec/template/spec/containers/0/args/-",
            "value": "--identity-assignment-reconcile-interval=2s",
        }
    ]
    path = "/apis/apps/v1/namespaces/default/deployments/mic"
    await stage.call("PATCH", path, flags, content_type="application/json-patch+json")

    async def repaired() -> bool:
        return identity.id.casefold() in await stage.attached()

    await until(repaired, "mic puts the identity back", 45)
    assert (await stage.ask("taken", "https://storage.azure.com/")).token


async def test_without_nmi_nobody_gets_anything(stage: Stage) -> None:
    """With nmi stopped a pod is refused by its own node, and the metadata service has never heard of any pod."""
    await stage.identity("orphan")
    await stage.pod("orphan", label="orphan-binding")
    await stage.ready("orphan")
    assert (await stage.ask("orphan")).token
    path = "/apis/apps/v1/namespaces/default/daemonsets"
    nmi = await stage.call("GET", f"{path}/nmi")
    await stage.call("DELETE", f"{path}/nmi")

    async def stopped() -> bool:
        pods = await stage.lab.cluster.objects(f"{DEFAULT}/pods")
        return not any(pod["metadata"]["name"].startswith("nmi-") for pod in pods)

    await until(stopped, "nmi is stopped")
    reply = await stage.ask("orphan")
    assert (reply.status, "Connection refused" in reply.body) == (0, True)
    counters = await stage.lab.azure.counters()
    assert counters.imds_requests("pod") == 0
    assert counters.imds_requests("node") > 0
    await stage.call("POST", path, {**nmi, "metadata": {"name": "nmi", "namespace": "default"}})
    await stage.installed()
    assert (await stage.ask("orphan")).token
