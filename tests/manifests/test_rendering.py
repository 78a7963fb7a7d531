"""Rendering: the bytes of the templates, valid YAML for every valid value, one line for every wrong one."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from podidentity.config.errors import ConfigError
from podidentity.manifests.rendering import (
    IdentityValues,
    PodValues,
    VaultValues,
    identity_files,
    render_binding,
    render_identity,
    render_pod,
    render_secret_provider_class,
)

CLIENT = "ae95a0e4-1111-2222-3333-444444445f1d"
TENANT = "11111111-2222-3333-4444-555555555555"
RESOURCE = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rsg-dfitcfr-dev/providers/"
    "Microsoft.ManagedIdentity/userAssignedIdentities/uai1"
)
VALUES = IdentityValues("uai1", RESOURCE, CLIENT)
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?)?", fullmatch=True)
HARD_NAMES = st.sampled_from(["null", "true", "no", "on", "y", "123", "1e3", "0x1f", "0o7", "1.5", "2021-01-01", "0b1"])


def test_walkthrough_templates() -> None:
    """W11: identity and binding equal the walkthrough's templates byte for byte, no newline at the end."""
    template = (
        'apiVersion: "aadpodidentity.k8s.io/v1"\nkind: AzureIdentity\nmetadata:\n  name: ${UAIName}\nspec:\n'
        "  type: 0\n  resourceID: ${UAIId}\n  clientID: ${UAIClientId}"
    )
    binding = (
        'apiVersion: "aadpodidentity.k8s.io/v1"\nkind: AzureIdentityBinding\nmetadata:\n  name: ${UAIName}-binding\n'
        "spec:\n  azureIdentity: ${UAIName}\n  selector: ${UAIName}-binding"
    )

    def rendered(text: str) -> str:
        return text.replace("${UAIName}", "uai1").replace("${UAIId}", RESOURCE).replace("${UAIClientId}", CLIENT)

    assert render_identity(VALUES) == rendered(template)
    assert render_binding("uai1") == rendered(binding)
    assert identity_files(VALUES) == {"uai1.yaml": rendered(template), "uai1_Binding.yaml": rendered(binding)}


def test_secret_provider_class() -> None:
    """W14: the class is named like the vault and carries the walkthrough's parameters, the version as text."""
    version = "12345678901234567890123456789012"
    parsed = yaml.safe_load(
        render_secret_provider_class(VaultValues("kv-demo", CLIENT, "kvs-test01", TENANT, version=version))
    )
    assert parsed["apiVersion"] == "secrets-store.csi.x-k8s.io/v1alpha1"
    assert parsed["metadata"]["name"] == "kv-demo"
    parameters = parsed["spec"]["parameters"]
    objects = yaml.load(parameters.pop("objects"), Loader=yaml.BaseLoader)
    assert parameters == {
        "usePodIdentity": "true",
        "userAssignedIdentityID": CLIENT,
        "keyvaultName": "kv-demo",
        "cloudName": "",
        "tenantId": TENANT,
    }
    (entry,) = (yaml.load(text, Loader=yaml.BaseLoader) for text in objects["array"])
    assert entry == {
        "objectName": "kvs-test01",
        "objectAlias": "kvs-test01",
        "objectType": "secret",
        "objectVersion": version,
    }


def test_latest_version() -> None:
    """Without a version the class asks for the latest one."""
    text = render_secret_provider_class(VaultValues("kv-demo", CLIENT, "s1", TENANT))
    assert "          objectVersion:\n" in text


def test_vault_name_in_capitals() -> None:
    """A vault spelled with capitals gives one valid Kubernetes name in class and pod, and keeps its spelling."""
    parsed = yaml.safe_load(render_secret_provider_class(VaultValues("KV-Demo", CLIENT, "s1", TENANT)))
    pod = yaml.safe_load(render_pod(PodValues("uai1", "KV-Demo")))
    assert parsed["metadata"]["name"] == "kv-demo"
    assert parsed["spec"]["parameters"]["keyvaultName"] == "KV-Demo"
    assert pod["spec"]["volumes"][0]["csi"]["volumeAttributes"]["secretProviderClass"] == "kv-demo"


def test_pod() -> None:
    """W13, W15: the pod's label is the binding's selector, and it mounts the class read-only."""
    parsed = yaml.safe_load(render_pod(PodValues("uai1", "kv-demo")))
    assert parsed["metadata"] == {
        "name": "nginx-secrets-store-inline",
        "labels": {"aadpodidbinding": yaml.safe_load(render_binding("uai1"))["spec"]["selector"]},
    }
    assert parsed["spec"]["volumes"][0]["csi"]["readOnly"] is True
    assert parsed["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] == "/mnt/secrets-store"


@given(name=NAMES | HARD_NAMES)
def test_names_stay_text(name: str) -> None:
    """Any valid name comes back as the same text from YAML, also one that looks like a number, a word or a date."""
    if len(name) > 55:
        return
    identity = yaml.safe_load(render_identity(IdentityValues(name, RESOURCE, CLIENT)))
    binding = yaml.safe_load(render_binding(name))
    assert identity["metadata"]["name"] == name
    assert binding["spec"] == {"azureIdentity": name, "selector": f"{name}-binding"}


@given(group=st.from_regex(r"[-\w.()]{1,30}[-\w()]", fullmatch=True))
def test_resource_ids_stay_text(group: str) -> None:
    """Any resource group that Azure allows comes back as the same text from YAML."""
    resource = RESOURCE.replace("rsg-dfitcfr-dev", group)
    parsed = yaml.safe_load(render_identity(IdentityValues("uai1", resource, CLIENT)))
    assert parsed["spec"]["resourceID"] == resource


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (IdentityValues("My_App", RESOURCE, CLIENT), 'for example "my-app"'),
        (IdentityValues("", RESOURCE, CLIENT), 'identity name ""'),
        (IdentityValues("a\nb", RESOURCE, CLIENT), "identity name"),
        (IdentityValues("a" * 56, RESOURCE, CLIENT), "at most 55"),
        (IdentityValues("uai1", RESOURCE + "/x", CLIENT), "resource id"),
        (IdentityValues("uai1", f"x{RESOURCE}", CLIENT), "resource id"),
        (IdentityValues("uai1", RESOURCE, "not-a-uuid"), "client id"),
        (IdentityValues("uai1", RESOURCE, CLIENT + "\nevil: yes"), "client id"),
    ],
)
def test_wrong_identities(values: IdentityValues, expected: str) -> None:
    """A value that Kubernetes or Azure would refuse is refused here, naming what is wrong with it."""
    with pytest.raises(ConfigError, match=expected) as caught:
        render_identity(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (VaultValues("kv", CLIENT, "s1", TENANT), "vault name"),
        (VaultValues("kv--x", CLIENT, "s1", TENANT), "vault name"),
        (VaultValues("a" * 25, CLIENT, "s1", TENANT), "vault name"),
        (VaultValues("kv-demo", "x", "s1", TENANT), "client id"),
        (VaultValues("kv-demo", CLIENT, "s_1", TENANT), "secret name"),
        (VaultValues("kv-demo", CLIENT, "s1", "adfs"), "tenant id"),
        (VaultValues("kv-demo", CLIENT, "s1", TENANT, version="a b"), "secret version"),
        (VaultValues("kv-demo", CLIENT, "s1", TENANT, api_version="v2"), "v1 or v1alpha1"),
    ],
)
def test_wrong_vault_values(values: VaultValues, expected: str) -> None:
    """A vault, secret, version or tenant that cannot exist is refused in one line."""
    with pytest.raises(ConfigError, match=expected) as caught:
        render_secret_provider_class(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (PodValues("uai1", "kv-demo", name="No"), "pod name"),
        (PodValues("uai1", "kv-demo", image="nginx\nevil"), "image"),
        (PodValues("uai1", "kv_demo"), "vault name"),
    ],
)
def test_wrong_pods(values: PodValues, expected: str) -> None:
    """A pod that Kubernetes would refuse is refused here."""
    with pytest.raises(ConfigError, match=expected):
        render_pod(values)
