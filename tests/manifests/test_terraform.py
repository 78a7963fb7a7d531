"""What is read from ``terraform output -json``: identities by their shape, whatever the outputs are called."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.config.errors import ConfigError
from podidentity.manifests.rendering import IdentityValues, render_binding, render_identity
from podidentity.manifests.terraform import SecretValues, read_outputs

SCOPE = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rsg"
CLIENT = "ae95a0e4-1111-2222-3333-444444445f1d"
TENANT = "11111111-2222-3333-4444-555555555555"


def arm_id(name: str) -> str:
    """The ARM id of an identity."""
    return f"{SCOPE}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"


def outputs(**values: object) -> bytes:
    """The JSON terraform prints."""
    found = {name: {"sensitive": False, "type": "string", "value": value} for name, value in values.items()}
    return json.dumps(found).encode()


KUBELET = {
    "KubeKubelet_UAI": [{"client_id": CLIENT, "object_id": "o", "user_assigned_identity_id": arm_id("aks-agentpool")}],
    "KubeKubelet_UAI_ClientId": CLIENT,
    "KubeKubelet_UAI_Id": arm_id("aks-agentpool"),
    "KubeName": "aks",
    "NodeRG": "rsg-objects",
}


def test_the_walkthroughs_outputs() -> None:
    """Bare names, as the walkthrough has them, with a vault's secret beside; the cluster's identity is left out."""
    version = "0123456789abcdef0123456789abcdef"
    more = {"SecretId": f"https://akv-demo.vault.azure.net/secrets/kvs-test01/{version}", "TenantId": TENANT}
    found = read_outputs(outputs(Name="uaitest1", Id=arm_id("uaitest1"), ClientId=CLIENT, **KUBELET, **more))
    assert found.identities == (IdentityValues("uaitest1", arm_id("uaitest1"), CLIENT),)
    assert found.secrets == (SecretValues("akv-demo", "kvs-test01", version),)
    assert found.tenants == (TENANT,)


def test_several_identities_in_a_state() -> None:
    """Outputs with a prefix belong together by what is before their last underscore."""
    values = {}
    for name in ("UAI1", "my_second"):
        values |= {f"{name}_Name": name.lower().replace("_", "-"), f"{name}_Id": arm_id(name)}
        values |= {f"{name}_ClientId": CLIENT, f"{name}_PrincipalId": "p"}
    found = read_outputs(outputs(**values, **KUBELET))
    assert [one.name for one in found.identities] == ["uai1", "my-second"]


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [one], lambda one: {"a": {"b": [one]}}])
def test_whole_objects(wrap: object) -> None:
    """A whole resource is an output too, and one identity that is there in both forms counts once."""
    assert callable(wrap)
    whole = {"name": "uai1", "id": arm_id("uai1"), "client_id": CLIENT, "principal_id": "p", "tenant_id": TENANT}
    scalars = {"UAI1_Name": "uai1", "UAI1_Id": arm_id("uai1"), "UAI1_ClientId": CLIENT}
    found = read_outputs(outputs(UAI1_FullUAIOutput=wrap(whole), **scalars))
    assert found.identities == (IdentityValues("uai1", arm_id("uai1"), CLIENT),)


def test_a_vault_and_a_secret_by_name() -> None:
    """Vault and secret are modules of their own: the vault by its URI, the secret by name and version."""
    more = {"KV_Name": "akv", "KV_URI": "https://akv.vault.azure.net/", "S_Name": "kvs1", "S_Version": "0123"}
    uai = {"UAI1_Name": "uai1", "UAI1_Id": arm_id("uai1"), "UAI1_ClientId": CLIENT}
    assert read_outputs(outputs(**uai, **more)).secrets == (SecretValues("akv", "kvs1", "0123"),)
    two = {**more, "KV2_URI": "https://other.vault.azure.net/"}
    assert read_outputs(outputs(**uai, **two)).secrets == ()


def test_a_rendered_manifest() -> None:
    """W11: outputs that hold the rendered AzureIdentity alone name the identity too; other texts do not."""
    values = IdentityValues("uai1", arm_id("uai1"), CLIENT)
    texts = {"podidentitymanifest": render_identity(values), "podidentitybindingmanifest": render_binding("uai1")}
    assert read_outputs(outputs(**texts)).identities == (values,)
    with pytest.raises(ConfigError, match="no output names"):
        read_outputs(
            outputs(a="kind: AzureIdentity\n  x", b="kind: AzureIdentity", c=texts["podidentitybindingmanifest"])
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not the JSON of `terraform output -json`"),
        (b"[]", "not the JSON of `terraform output -json`"),
        (b'"only one value"', "not the JSON of `terraform output -json`, without a name after it"),
        (b"\xff\xfe", "not the JSON of `terraform output -json`"),
        (b"{}", "no output names a user-assigned identity.*there are none"),
        (outputs(**KUBELET), "no output names a user-assigned identity.*there are KubeKubelet_UAI, "),
        (outputs(Name="a", Id="not-an-id", ClientId=CLIENT), "there are Name, Id, ClientId"),
        (outputs(Name="a", Id=arm_id("a"), ClientId=5), "no output names"),
    ],
)
def test_wrong_input(text: bytes, words: str) -> None:
    """Anything else is refused in one line that says what was expected and what there is."""
    with pytest.raises(ConfigError, match=words):
        read_outputs(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=5), s, max_size=3),
    )
)
def test_any_json_gives_an_answer(value: object) -> None:
    """Whatever the outputs hold, the answer is identities or one sentence."""
    with pytest.raises(ConfigError):
        read_outputs(outputs(a=value, b_Name=value, b_Id=value))
