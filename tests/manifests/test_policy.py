"""The admission policies as `podidentity manifests policy` prints them."""

from __future__ import annotations

import difflib

import pytest
import yaml

from podidentity.config.errors import ConfigError
from podidentity.manifests.policy import FILE, policies
from podidentity.manifests.shipped import shipped

TEXT = shipped(FILE).read_text()


def actions(text: str) -> dict[str, list[str]]:
    """What each binding does."""
    found = yaml.safe_load_all(text)
    kind = "ValidatingAdmissionPolicyBinding"
    return {one["metadata"]["name"]: one["spec"]["validationActions"] for one in found if one["kind"] == kind}


def test_without_a_wish_they_are_the_shipped_ones() -> None:
    """Whoever asks for nothing special gets the file of deploy/, byte for byte."""
    assert policies(TEXT, (), deny=False) == TEXT


def test_deny_is_what_the_other_file_says() -> None:
    """The policies that refuse have the same bindings as deploy/policy/deny.yaml, and differ in nothing else."""
    denying = policies(TEXT, (), deny=True)
    assert actions(denying) == actions(shipped("policy/deny.yaml").read_text())
    changed = [line for line in difflib.ndiff(TEXT.splitlines(), denying.splitlines()) if line[0] == "+"]
    assert changed == ["+   validationActions: [Deny]"] * 3


def test_the_accounts_of_mic() -> None:
    """The accounts named replace the list, so that no account of another installation may write records."""
    found = yaml.safe_load_all(policies(TEXT, ["ids/mic", "other/mic.v2"], deny=False))
    records = next(one for one in found if one["metadata"]["name"] == "aad-pod-id-records")
    (writers,) = records["spec"]["variables"]
    assert writers["expression"] == '["system:serviceaccount:ids:mic", "system:serviceaccount:other:mic.v2"]'


@pytest.mark.parametrize("account", ["mic", "ids/", "/mic", "Ids/mic", "ids:mic", 'ids/m"]', "a/b/c", "ids/mic\nx"])
def test_wrong_accounts_are_one_line(account: str) -> None:
    """What is no account never reaches the expression."""
    with pytest.raises(ConfigError, match="must be namespace/name") as refused:
        policies(TEXT, [account], deny=False)
    assert "\n" not in str(refused.value)


def test_a_changed_file_is_noticed() -> None:
    """Policies somebody edited give an error, never policies that know another mic than was asked for."""
    with pytest.raises(ConfigError, match="expected one list of writers, found 0"):
        policies(TEXT.replace("system:serviceaccount:default", "x"), ["ids/mic"], deny=True)
