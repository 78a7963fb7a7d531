"""The page of versions says what the code asks for."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from podidentity.api import resources
from podidentity.api.resources import Resource
from podidentity.azure import arm_request, authorization_request, imds, keyvault
from podidentity.config.mic import MicSettings
from podidentity.kube.refusals import too_old
from podidentity.lab.programs import DEFAULT_MINOR

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/supported-versions.md").read_text()


def row(first: str) -> str:
    """The row whose first cell begins so."""
    (found,) = [line for line in PAGE.splitlines() if line.startswith(f"| {first}")]
    return found


def test_azures_versions() -> None:
    """Each api-version stands in its row."""
    for first, version in (
        ("Metadata service", imds.API_VERSION),
        ("ARM, VMs", arm_request.API_VERSION),
        ("ARM, VMs", authorization_request.HOSTS_API_VERSION),
        ("ARM, VMs", MicSettings().compute_api_version),
        ("ARM, role", authorization_request.API_VERSION),
        ("ARM, managed", authorization_request.IDENTITIES_API_VERSION),
        ("Key Vault", keyvault.API_VERSION),
    ):
        assert f"`{version}`" in row(first)


def test_kubernetes_apis() -> None:
    """What the components ask for and what the manifests are made of is in the table."""
    asked = {one.api_version for one in vars(resources).values() if isinstance(one, Resource)}
    for path in [*(ROOT / "deploy").glob("*.yaml"), *(ROOT / "deploy/policy").glob("*.yaml")]:
        found = [document for document in yaml.safe_load_all(path.read_text()) if document]
        asked |= {document["apiVersion"] for document in found if "kind" in document}  # a patch has none
    named = set(re.findall(r"`([a-z0-9.-]+/v\w+|v1)`", PAGE))
    assert len(asked) > 5
    assert asked <= named


def test_the_oldest_and_the_tested_kubernetes() -> None:
    """The code, the chart and the page agree on them."""
    assert too_old("v1.15.9")
    assert not too_old("v1.16.0")
    chart = yaml.safe_load((ROOT / "deploy/charts/aad-pod-identity/Chart.yaml").read_text())
    assert chart["kubeVersion"] == ">=1.16.0-0"
    assert "Tested" in row(f"{DEFAULT_MINOR} ")
    for minor in ("1.34", "1.37"):
        found = re.search(
            r"k8s\.io/kubernetes v([\d.]+)", (ROOT / f"tools/kube-assets/kubernetes-{minor}/go.mod").read_text()
        )
        assert found is not None
        assert found[1] in row(f"{minor} ")
