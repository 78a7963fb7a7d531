"""A control plane for these tests alone, for they install cluster-wide objects; with an audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.deploy import original
from tests.real_server import RealServer, running_control_plane

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    users:
      - system:serviceaccount:default:aad-pod-id-mic-service-account
      - system:serviceaccount:default:aad-pod-id-nmi-service-account
      - system:serviceaccount:kube-system:aad-pod-id-nmi-service-account
  - level: Metadata
    resources: [{group: aadpodidentity.k8s.io}]
    verbs: [create, update, patch, delete]
  - level: None
"""
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_ALERT = {
    "type": "object",
    "required": ["alert", "expr"],
    "properties": {
        **{name: {"type": "string"} for name in ("alert", "expr", "for")},
        "labels": _TEXTS,
        "annotations": _TEXTS,
    },
}
_GROUP = {
    "type": "object",
    "required": ["name", "rules"],
    "properties": {"name": {"type": "string"}, "rules": {"type": "array", "items": _ALERT}},
}
_GROUPS = {"type": "object", "properties": {"groups": {"type": "array", "items": _GROUP}}}
PROMETHEUS_RULE: original.Obj = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "prometheusrules.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "PrometheusRule", "plural": "prometheusrules"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _GROUPS}}},
            }
        ],
    },
}
"""Stands in for the Prometheus operator's own: the fields of a rule that its documentation has and we use."""
KINDS = (
    "azureassignedidentities",
    "azureidentities",
    "azureidentitybindings",
    "azurepodidentityexceptions",
)


def whole_manifests() -> list[Path]:
    """The files of ``deploy/`` that are applied as they are: not the chart, no template, and no patch of an object."""
    files = [path for path in sorted(DEPLOY.glob("**/*.yaml")) if not {"charts", "yaml_template"} & set(path.parts)]
    return [path for path in files if all("kind" in one for one in yaml.safe_load_all(path.read_text()))]


class Cluster:
    """The control plane with kubectl at hand; ``clean`` takes away what an installation or a test put there."""

    def __init__(self, server: RealServer, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def kubectl(self, *words: str, succeeds: bool = True, **more: object) -> str:
        """Run kubectl; return stdout, or stderr of a command that must fail."""
        done = self.server.kubectl(*words, **more)
        assert (done.returncode == 0) == succeeds, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout if succeeds else done.stderr

    def apply(self, file: str, *words: str) -> list[str]:
        """Apply a file of ``deploy/``; return what is printed, a line an object."""
        return self.kubectl("apply", "-f", str(DEPLOY / file), *words).splitlines()

    def apply_kinds(self, *kinds: str) -> None:
        """Apply what the main manifest has of these kinds."""
        objects = yaml.safe_load_all((DEPLOY / "deployment-rbac.yaml").read_text())
        self.apply_objects(*(one for one in objects if one["kind"] in kinds))
        if "CustomResourceDefinition" in kinds:
            self.until_served()

    def apply_objects(self, *objects: original.Obj) -> list[str]:
        """Apply objects in this order; return what is printed, a line an object."""
        return self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects)).splitlines()

    def until_served(self, *kinds: str) -> None:
        """Wait until the CRDs are established."""
        names = [f"crd/{kind}.{original.GROUP}" for kind in kinds or KINDS]
        self.kubectl("wait", "--for=condition=established", "--timeout=20s", *names)

    def get(self, *words: str) -> original.Obj:
        """Read an object or a list."""
        found: original.Obj = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    def clean(self) -> None:
        """Remove everything of an installation, its CRDs last; records lose their finalizer first."""
        for namespace in ("default", "kube-system"):
            self._delete("-n", namespace, *_NAMED)
            self._delete("-n", namespace, "pods", "--all", "--force", "--grace-period=0")
        self._delete(*(f"{kind}/aad-pod-id-{one}-{end}" for one in ("mic", "nmi") for kind, end in _CLUSTER_WIDE))
        crds = [f"{kind}.{original.GROUP}" for kind in KINDS]
        for crd in crds:
            # A CRD deleted while its storage starts anew, after a change, would be stuck for minutes: list first.
            if self.kubectl("get", "crd", crd, "--ignore-not-found"):
                self._release(crd)
        self._delete("crd", *crds)

    def _delete(self, *what: str) -> None:
        self.kubectl("delete", "--ignore-not-found", "--wait=true", *what)

    def _release(self, crd: str) -> None:
        for item in self.get(crd, "-A")["items"]:
            meta, patch = item["metadata"], '{"metadata": {"finalizers": null}}'
            if meta.get("finalizers"):
                self.kubectl("patch", crd, meta["name"], "-n", meta["namespace"], "--type=merge", "-p", patch)


_NAMED = (
    *("serviceaccount/aad-pod-id-nmi-service-account", "serviceaccount/aad-pod-id-mic-service-account"),
    *("endpoints/aad-pod-identity-mic", "lease/aad-pod-identity-mic", "configmap/aad-pod-identity-config"),
    *("daemonset/nmi", "deployment/mic", "secret/aadpodidentity-admin-secret"),
    *("role/aad-pod-id-nmi-secrets", "rolebinding/aad-pod-id-nmi-secrets"),
)
_CLUSTER_WIDE = (("clusterrole", "role"), ("clusterrolebinding", "binding"))


@pytest.fixture(scope="session")
def deploy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One for all tests of this folder."""
    folder = tmp_path_factory.mktemp("deploy")
    policy = folder / "audit-policy.yaml"
    policy.write_text(AUDIT_POLICY)
    flags = (f"--audit-policy-file={policy}", f"--audit-log-path={folder / 'audit.log'}", "--audit-log-mode=blocking")
    with running_control_plane(folder, *flags) as server:
        cluster = Cluster(server, folder)
        cluster.apply_objects(PROMETHEUS_RULE)
        crd = f"crd/{PROMETHEUS_RULE['metadata']['name']}"
        cluster.kubectl("wait", "--for=condition=established", "--timeout=20s", crd)
        yield server


@pytest.fixture
def cluster(deploy_server: RealServer, tmp_path: Path) -> Iterator[Cluster]:
    """The control plane, with nothing of any installation on it before and after."""
    found = Cluster(deploy_server, tmp_path)
    yield found
    found.clean()
