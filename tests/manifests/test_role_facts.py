"""What each source says of a cluster, whatever its author called things."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.azure.config import parse_config
from podidentity.config.errors import ConfigError
from podidentity.manifests.role_facts import (
    Said,
    SignIn,
    facts,
    from_aks,
    from_azure_json,
    from_identities,
    from_terraform,
    joined,
)
from podidentity.rules.role_needs import Principal

SUB = "00000000-0000-0000-0000-000000000001"
KUBELET, CLIENT, CONTROL = (f"{digit * 8}-1111-2222-3333-444444444444" for digit in "abc")
NODES = "rsg-dfitcfr-dev-aks-aksobjects"


def arm_id(name: str, group: str = "rsg") -> str:
    """The ARM id of an identity."""
    return (
        f"/subscriptions/{SUB}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    )


POOL = arm_id("aks-terraaksclus-agentpool", NODES)
KUBELET_BLOCK = {"client_id": CLIENT, "object_id": KUBELET, "user_assigned_identity_id": POOL}
CONTROL_BLOCK = {"principal_id": CONTROL, "tenant_id": CLIENT, "type": "SystemAssigned", "identity_ids": None}
SIGN_IN = SignIn("kubelet identity aks-terraaksclus-agentpool", KUBELET, CLIENT)
CLUSTER_ID = f"/subscriptions/{SUB}/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/aks"


def outputs(**values: object) -> bytes:
    """The JSON terraform prints."""
    return json.dumps(
        {name: {"sensitive": False, "type": "x", "value": value} for name, value in values.items()}
    ).encode()


@pytest.mark.parametrize(
    "text",
    [
        outputs(KubeKubelet_UAI=[KUBELET_BLOCK], KubeControlPlane_SAI=[CONTROL_BLOCK]),
        outputs(
            KubeKubelet_UAI_ClientId=CLIENT,
            KubeKubelet_UAI_ObjectId=KUBELET,
            KubeKubelet_UAI_Id=POOL,
            KubeControlPlane_SAI_PrincipalId=CONTROL,
            KubeControlPlane_SAI_TenantId=CLIENT,
        ),
        outputs(
            FullAKS={"id": CLUSTER_ID, "kubelet_identity": [KUBELET_BLOCK], "identity": [CONTROL_BLOCK]},
            NodeRG=NODES,
        ),
        outputs(AKS1_NodeRG=NODES, AKS1_KubeId=CLUSTER_ID, any=[KUBELET_BLOCK], thing={"deep": [[CONTROL_BLOCK]]}),
    ],
    ids=["blocks", "scalars", "whole cluster", "other names"],
)
def test_the_walkthroughs_cluster(text: bytes) -> None:
    """W1, W2: kubelet and control plane are found by what they are, as blocks, as scalars, inside a whole resource."""
    assert from_terraform(text) == Said(SUB, NODES, SIGN_IN, POOL, CONTROL)


def test_as_terraform_prints_it_for_people() -> None:
    """W1, W2: the transcript of `terraform output KubeKubelet_UAI` itself is read, from PowerShell's file too."""
    text = f"""tolist([
  {{
    "client_id" = "{CLIENT}"
    "object_id" = "{KUBELET}"
    "user_assigned_identity_id" = "{POOL}"
  }},
])
"""
    assert from_terraform(text.encode()).sign_in == SIGN_IN
    assert from_terraform(text.replace("\n", "\r\n").encode("utf-16")).sign_in == SIGN_IN
    assert from_terraform(json.dumps([KUBELET_BLOCK]).encode()).sign_in == SIGN_IN
    block = f'{{\n    "principal_id" = "{CONTROL}"\n    "type" = "SystemAssigned"\n  }}'
    whole = f"KubeControlPlane_SAI = tolist([\n  {block},\n])\n"
    assert from_terraform(whole.encode()).control_plane_id == CONTROL


def test_all_that_terraform_writes_for_people() -> None:
    """Every form of value: texts over lines, numbers, words, maps, calls; what is not ours says nothing."""
    text = f"""a = <<EOT
one
  two
EOT
b = tomap({{
  "NodeRG" = "x"
}})
c = [1, -2.5, true, null,]
AKS1_NodeRG = "{NODES}"
d = {{ object_id = "o", user_assigned_identity_id = "not an id" }}
e = {{ node_resource_group = "other" }}
f = {{ principal_id = "", type = "UserAssigned" }}
"""
    assert from_terraform(text.encode()) == Said(node_group=NODES)
    deep: object = KUBELET_BLOCK
    for _ in range(60):
        deep = [deep]
    assert from_terraform(outputs(deep=deep)) == Said()


def test_identities_beside_a_cluster() -> None:
    """The identities of pods are those with name, id and client id; the kubelet's own is not one of them."""
    uai = {"UAI1_Name": "uai1", "UAI1_Id": arm_id("uai1"), "UAI1_ClientId": CLIENT, "UAI1_PrincipalId": CONTROL}
    said = from_terraform(outputs(KubeKubelet_UAI=[KUBELET_BLOCK], **uai))
    assert said.identities == (arm_id("uai1"),)
    assert said.control_plane_id == ""
    again = joined(said, Said(identities=(POOL, arm_id("UAI1"), arm_id("uai2"))))
    found = facts(again, (Principal(KUBELET, "x"),))
    assert [one.name for one in found.identities] == ["uai1", "uai2"]


def aks(**fields: object) -> bytes:
    """What `az aks show` prints, the fields that count."""
    return json.dumps({"id": CLUSTER_ID, "nodeResourceGroup": NODES, **fields}).encode()


def test_az_aks_show() -> None:
    """The kubelet's identity counts, not the control plane's; without one it is the service principal."""
    profile = {"kubeletidentity": {"clientId": CLIENT, "objectId": KUBELET, "resourceId": POOL}}
    identity = {"type": "SystemAssigned", "principalId": CONTROL}
    text = aks(identityProfile=profile, identity=identity, servicePrincipalProfile={"clientId": "msi"})
    assert from_aks(text) == Said(SUB, NODES, SIGN_IN, POOL, CONTROL)
    old = from_aks(aks(servicePrincipalProfile={"clientId": CLIENT}, identity=None, identityProfile=None))
    assert old.sign_in == SignIn("service principal", client_id=CLIENT, service_principal=True)
    assert from_aks(aks(servicePrincipalProfile={"clientId": "msi"})).sign_in is None


def test_azure_json() -> None:
    """azure.json says which of the three ways mic signs in, by client id."""
    fixed = {"cloud": "AzurePublicCloud", "subscriptionId": SUB, "resourceGroup": NODES, "tenantId": CLIENT}

    def read(**more: object) -> SignIn | None:
        return from_azure_json(parse_config(json.dumps({**fixed, **more}).encode(), "azure.json", {})).sign_in

    managed = read(useManagedIdentityExtension=True, userAssignedIdentityID=CLIENT, aadClientId="msi")
    assert managed == SignIn("the nodes' identity", client_id=CLIENT)
    own = read(useManagedIdentityExtension=True)
    assert own == SignIn("each machine's own identity")
    principal = read(aadClientId=CLIENT, aadClientSecret="s")
    assert principal is not None
    assert principal.service_principal


def test_sources_together() -> None:
    """The first that says something counts; an object id is taken from a second source for the same client id."""
    by_client = Said(SUB, NODES, SignIn("the nodes' identity", client_id=CLIENT.upper()))
    terraform = from_terraform(outputs(KubeKubelet_UAI=[KUBELET_BLOCK]))
    assert joined(by_client, terraform).sign_in == SIGN_IN
    other = Said(sign_in=SignIn("mic", object_id=CONTROL))
    assert joined(other, terraform).sign_in == other.sign_in


def test_identity_list() -> None:
    """`az identity list` and `az identity show` are both read; ids keep ARM's spelling."""
    one = {"name": "uai1", "id": arm_id("uai1"), "clientId": CLIENT, "principalId": KUBELET, "location": "westeurope"}
    assert from_identities(json.dumps([one]).encode()).identities == (arm_id("uai1"),)
    assert from_identities(json.dumps(one).encode()).identities == (arm_id("uai1"),)


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (from_aks, b"", "is empty"),
        (from_aks, b"{", "not the JSON of `az aks show -o json`: Input data was truncated"),
        (from_aks, b"\xff\xfe\x00", "is not text"),
        (from_aks, b"[]", "not the JSON of `az aks show -o json`"),
        (from_aks, b'{"id": "x"}', '"id" is no managed cluster'),
        (from_identities, b"[]", "there is no identity in it"),
        (from_identities, b'[{"name": "a"}]', "not the JSON of `az identity list -o json`: .*`id`"),
        (from_terraform, b"\x89PNG\r\n", "not the JSON of `terraform output -json`.*is not text"),
        (from_terraform, b"{", "not the JSON of `terraform output -json`"),
        (from_terraform, b"[" * 100_000, "not the JSON of `terraform output -json`"),
        (from_terraform, b"hello world", "not the JSON of `terraform output -json`"),
        (from_terraform, b'a = "x" }', "not the JSON of `terraform output -json`"),
        (from_terraform, b"tolist([1)", "not the JSON of `terraform output -json`"),
        (from_terraform, b"tolist(1]", '"\\)" expected'),
        (from_terraform, b"a = [1] ]", "not the JSON of `terraform output -json`"),
        (from_terraform, b"tolist([]) x", "something follows"),
        (from_terraform, b"a = \x01", "cannot be read at character"),
    ],
)
def test_wrong_files(read: object, text: bytes, words: str) -> None:
    """A file that is something else is refused in one line that says what was expected."""
    assert callable(read)
    with pytest.raises(ConfigError, match=words) as caught:
        read(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said(), "the subscription is not known; give it with --subscription"),
        (Said(SUB), "the nodes' resource group is not known; give it with --node-group"),
        (Said("x y", NODES), 'subscription "x y": is not one; see --subscription'),
        (Said(SUB, "a/b"), 'nodes\' resource group "a/b": is not one'),
        (Said(SUB, NODES, identities=("uai1",)), 'identity "uai1": must be /subscriptions/'),
        (Said(SUB, NODES, control_plane_id="x"), 'object id "x": must be a UUID'),
    ],
)
def test_what_is_missing_is_named_with_its_option(said: Said, words: str) -> None:
    """Each missing or wrong value is one line with the option that gives it."""
    with pytest.raises(ConfigError, match=words):
        facts(said, (Principal(KUBELET, "x"),))
    with pytest.raises(ConfigError, match='object id "k": must be a UUID'):
        facts(Said(SUB, NODES), (Principal("k", "x"),))


@given(st.text(max_size=60))
def test_any_text_gives_an_answer(text: str) -> None:
    """Whatever the file holds, there is an answer or a ConfigError."""
    with contextlib.suppress(ConfigError):
        assert isinstance(from_terraform(text.encode("utf-8", "surrogatepass")), Said)
