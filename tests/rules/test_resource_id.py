"""ARM ids: anchored, case-folded, never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.rules.resource_id import fold, parse_host_id, parse_identity_id, parse_provider_id

WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=12)
CASINGS = st.sampled_from([str, str.upper, str.lower, str.swapcase])


@given(WORDS, WORDS, WORDS, CASINGS)
def test_m33_identity_id_round_trip(sub: str, group: str, name: str, case: object) -> None:
    """Protects the equality of two spellings of one identity."""
    text = (
        f"/subscriptions/{sub}/resourcegroups/{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    )
    parsed, other = parse_identity_id(text), parse_identity_id(case(text))  # type: ignore[operator]  # a str method
    assert parsed is not None
    assert other is not None
    assert parsed.key == other.key == fold(text)
    assert (parsed.subscription, parsed.resource_group, parsed.name) == (sub, group, name)
    again = parse_identity_id(parsed.path)
    assert again == parsed


@given(st.text(max_size=6), st.text(max_size=6))
def test_m48_identity_id_is_anchored(before: str, after: str) -> None:
    """Protects ARM bodies from ids with junk around them."""
    text = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n"
    parsed = parse_identity_id(before + text + after)
    if before:
        assert parsed is None
    elif parsed is not None:
        assert parsed.name == "n" + after
        assert "/" not in after
        assert not set(after) & set(" \n?#%")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n",
        "/subscriptions/s/resourceGroups/../providers/Microsoft.ManagedIdentity/userAssignedIdentities/n",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/..",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n\n",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n/x",
        "/subscriptions/s/resourceGroups/g/providers/MicrosoftxManagedIdentity/userAssignedIdentities/n",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/",
    ],
)
def test_not_an_identity_id(text: str) -> None:
    """Protects against ids that would be another URL once joined to one."""
    assert parse_identity_id(text) is None


@given(WORDS, WORDS, WORDS, st.integers(0, 10_000), CASINGS)
def test_scale_set_provider_id(sub: str, group: str, name: str, instance: int, case: object) -> None:
    """Protects the mapping of every instance of a scale set to one host, whatever the casing."""
    arm = f"/subscriptions/{sub}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachineScaleSets/{name}"
    text = f"azure://{arm}/virtualMachines/{instance}"
    parsed, other = parse_provider_id(text), parse_provider_id(case(text))  # type: ignore[operator]  # a str method
    assert parsed is not None
    assert other is not None
    assert parsed.host.path == arm
    assert parsed.host.key == other.host.key == fold(arm)
    assert parsed.instance == str(instance)
    assert parse_host_id(parsed.host.path) == parsed.host


def test_m10_same_name_in_two_groups_is_two_hosts() -> None:
    """Protects scale sets of one name in two resource groups from each other's work."""
    template = "azure:///subscriptions/s/resourceGroups/{}/providers/Microsoft.Compute/virtualMachines/vm"
    one, two = (parse_provider_id(template.format(group)) for group in ("g1", "g2"))
    assert one is not None
    assert two is not None
    assert one.instance == ""
    assert one.host.kind == "virtualMachines"
    assert one.host.key != two.host.key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kind://docker/kind/node",
        "aws:///eu-west-1a/i-0abc",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm",
        "xazure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm",
        "azure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/vm",
        "azure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm/x",
        "azure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/vm",
    ],
)
def test_m48_not_an_azure_node(text: str) -> None:
    """Protects foreign nodes from being taken for a machine of that name."""
    assert parse_provider_id(text) is None


def test_host_id_of_a_machine_and_of_junk() -> None:
    """Protects the host annotation from being read as anything but a host."""
    arm = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/VIRTUALMACHINES/vm"
    parsed = parse_host_id(arm)
    assert parsed is not None
    assert parsed.kind == "virtualMachines"
    assert parse_host_id(arm + "/x") is None
