"""What the driver sends, read strictly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.csi.conftest import attributes

from podidentity.config.redact import SecretText
from podidentity.csi.errors import MountError
from podidentity.csi.parameters import (
    SERVICE_ACCOUNT_TOKENS,
    PodIdentity,
    ServicePrincipal,
    SignIn,
    VmIdentity,
    WorkloadIdentity,
    parse_mount,
    vault_name,
)

PREFIX = "failed to mount objects, error: "


def refusal(attribute_text: str, secrets: str = "{}", permission: str = "420") -> str:
    """The refusal's text, empty without one."""
    try:
        parse_mount(attribute_text, secrets, permission)
    except MountError as error:
        return str(error)
    return ""


def test_walkthrough() -> None:
    """The walkthrough's parameters are read: legacy tenantId, empty cloudName, mode; idle ones are noted."""
    mount = parse_mount(attributes(), "{}", "420")
    assert (mount.pod_namespace, mount.pod_name) == ("default", "nginx-secrets-store-inline")
    assert (mount.vault, mount.cloud_name, mount.mode) == ("kv-demo", "", 0o644)
    assert mount.tenant_id == "11111111-1111-1111-1111-111111111111"
    assert mount.notices == (
        'parameter "tenantId" is the older spelling of tenantID',
        'parameter "userAssignedIdentityID" has no effect with usePodIdentity: the binding decides',
    )


def test_both_tenant_spellings() -> None:
    """TenantID goes before tenantId, and either is enough."""
    assert parse_mount(attributes(tenantID="new"), "{}", "420").tenant_id == "new"
    assert parse_mount(attributes(tenantID="new", tenantId=None), "{}", "420").tenant_id == "new"


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True", " true "])
def test_true_as_go_spells_it(text: str) -> None:
    """Every spelling of true that Go knows turns the mode on."""
    assert parse_mount(attributes(usePodIdentity=text, useVMManagedIdentity="F"), "{}", "420").vault == "kv-demo"


def test_unknown_parameter_is_noted() -> None:
    """A parameter nobody knows is ignored with a notice; the driver's own are not noted."""
    notices = parse_mount(
        attributes(usePodIdentiy="x", userAssignedIdentityID=None, tenantId=None, tenantID="t"), "{}", "420"
    ).notices
    assert notices == ('parameter "usePodIdentiy" is not known and ignored',)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"csi.storage.k8s.io/pod.name": None}, "pod name is not provided"),
        ({"csi.storage.k8s.io/pod.namespace": " "}, "pod namespace is not provided"),
        ({"usePodIdentity": "yes"}, "failed to parse usePodIdentity flag"),
        ({"useVMManagedIdentity": "2"}, "failed to parse useVMManagedIdentity flag"),
        ({"useAzureTokenProxy": "x"}, "failed to parse useAzureTokenProxy flag"),
        ({"useVMManagedIdentity": "true"}, "only one identity mode can be enabled at a time: "),
        ({"keyvaultName": ""}, "keyvaultName is not provided"),
        ({"tenantId": ""}, "tenantId is not provided"),
        (
            {"usePodIdentity": "false", "useAzureTokenProxy": "1"},
            "failed to build auth config for mode AzureTokenProxy, error: this provider has no token proxy",
        ),
        (
            {"usePodIdentity": None},
            "failed to build auth config for mode None, error: failed to get credentials, nodePublishSecretRef secret",
        ),
        (
            {"usePodIdentity": None, "clientID": "c"},
            "failed to build auth config for mode None, error: failed to parse workload identity tokens, the driver",
        ),
        ({"objects": None}, "objects is not set"),
    ],
)
def test_refusals(changes: dict[str, str | None], expected: str) -> None:
    """Each mistake has the original's text, the first one of its order wins."""
    assert refusal(attributes(**changes)).startswith(PREFIX + expected)


def tokens(audience: str = "api://AzureADTokenExchange", token: object = "jwt") -> str:
    """What the driver sends of ServiceAccount tokens."""
    return json.dumps({audience: {"token": token, "expirationTimestamp": "2026-01-01T00:00:00Z"}})


@pytest.mark.parametrize(
    ("changes", "secrets", "expected"),
    [
        ({}, {}, PodIdentity()),
        ({"clientID": "c"}, {"clientid": "x"}, PodIdentity()),
        ({"usePodIdentity": "0", "useVMManagedIdentity": "t"}, {}, VmIdentity("ae95a0e4-0000-0000-0000-000000005f1d")),
        (
            {"usePodIdentity": "0", "useVMManagedIdentity": "t", "userAssignedIdentityID": None, "clientID": "c"},
            {},
            VmIdentity(""),
        ),
        (
            {"usePodIdentity": None, "clientID": "c", SERVICE_ACCOUNT_TOKENS: tokens()},
            {"clientid": "x", "clientsecret": "y"},
            WorkloadIdentity("c", SecretText("jwt")),
        ),
        ({"usePodIdentity": None}, {"clientID": "x", "ClientSecret": "y"}, ServicePrincipal("x", SecretText("y"))),
        (
            {"usePodIdentity": None, "clientID": "c"},
            {"clientid": "x", "clientsecret": "y"},
            ServicePrincipal("x", SecretText("y")),
        ),
    ],
)
def test_ways_to_sign_in(changes: dict[str, str | None], secrets: dict[str, str], expected: SignIn) -> None:
    """Each mode is told by its parameters; a clientID demands a token only where one is used."""
    assert parse_mount(attributes(**changes), json.dumps(secrets), "420").sign_in == expected


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        ({"clientsecret": "y"}, "failed to get credentials, could not find clientid in secrets"),
        ({"clientid": "x"}, "failed to get credentials, could not find clientsecret in secrets"),
        ({"clientid": "x", "clientsecret": " "}, "failed to get credentials, could not find clientsecret in secrets"),
    ],
)
def test_secrets_that_lack_a_key(secrets: dict[str, str], expected: str) -> None:
    """A service principal without id or secret says which key is missing."""
    text = refusal(attributes(usePodIdentity=None), json.dumps(secrets))
    assert text == f"{PREFIX}failed to build auth config for mode None, error: {expected}"


@pytest.mark.parametrize("text", ["{", "[]", "3", tokens("other"), tokens(token=""), tokens(token=3), "[" * 100_000])
def test_tokens_that_cannot_be_used(text: str) -> None:
    """ServiceAccount tokens that are not there say so, and nothing of them is shown."""
    wrong = refusal(attributes(**{"usePodIdentity": None, "clientID": "c", SERVICE_ACCOUNT_TOKENS: text}))
    start = "failed to build auth config for mode None, error: failed to parse workload identity tokens, error: "
    assert wrong.startswith(PREFIX + start)
    assert "jwt" not in wrong


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', '{"a": 1}', "[" * 100_000, '{"a": {"b": "c"}}'])
def test_attributes_that_are_no_texts(text: str) -> None:
    """Attributes, and secrets, must be a JSON object of texts; an empty text is none."""
    assert refusal(text).startswith("failed to unmarshal attributes, error: ")
    assert refusal(attributes(), secrets=text).startswith("failed to unmarshal secrets, error: ")


@pytest.mark.parametrize("text", ["", "x", "true", "-1", "4096", "4.2", '"420"', "null", "9" * 5000])
def test_permission_that_is_no_mode(text: str) -> None:
    """The permission must be a file mode in decimal."""
    assert refusal(attributes(), permission=text).startswith("failed to unmarshal file permission, error: ")


@pytest.mark.parametrize("name", ["ab", "a" * 25, "a_b", "a.b", "kv/x", "käse", "kv\nx"])
def test_vault_names(name: str) -> None:
    """A name that is no vault's never becomes part of a host name."""
    with pytest.raises(MountError, match="Invalid vault name"):
        vault_name(name)


@given(values=st.dictionaries(st.text(max_size=10), st.text(max_size=10) | st.none() | st.integers()))
def test_any_attributes(values: dict[str, object]) -> None:
    """No attributes whatever make anything but a MountError of one line."""
    assert "\n" not in refusal(json.dumps(values))
