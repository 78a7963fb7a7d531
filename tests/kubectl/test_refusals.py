"""What the embedded API has not: kubectl prints one line that says where it is to be had, and nothing is half done."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
from tests.kubectl.clusters import Pair, Step
from tests.kubectl.objects import CONFIG_MAP, DAEMON_SET, DEPLOYMENT, POD

Play = Callable[..., None]
BUDGET = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: b}
spec: {minAvailable: 1, selector: {matchLabels: {a: b}}}
"""
POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: k-refusals}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: "true"}]
"""
WEBHOOK = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: k-refusals}
webhooks: []
"""
SERVICE = """
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.k-refusals.example.org}
spec: {group: k-refusals.example.org, version: v1, groupPriorityMinimum: 1, versionPriority: 1}
"""
STATEFUL = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: s}
spec:
  serviceName: s
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: m, image: x}]}}
"""
RULES = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rules.k-refusals.example.org}
spec:
  group: k-refusals.example.org
  scope: Cluster
  names: {plural: rules, kind: Rule}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-validations: [{rule: "true"}]}}
"""

SHORT = {
    "pvc": "persistentvolumeclaims",
    "pv": "persistentvolumes",
    "sc": "storageclasses.storage.k8s.io",
    "ing": "ingresses.networking.k8s.io",
    "netpol": "networkpolicies.networking.k8s.io",
    "pc": "priorityclasses.scheduling.k8s.io",
    "csr": "certificatesigningrequests.certificates.k8s.io",
    "quota": "resourcequotas",
    "runtimeclasses": "runtimeclasses.node.k8s.io",
    "endpointslices": "endpointslices.discovery.k8s.io",
}


@pytest.fixture(scope="module")
def space(pair: Pair) -> str:
    """A namespace of the embedded server with a pod on a node."""
    name = "refusals"
    with pair.namespace(name):
        pair.embedded.kubectl("create", "-f", "-", stdin="{apiVersion: v1, kind: Node, metadata: {name: refusals1}}")
        pod = POD.replace("spec:", "spec:\n  nodeName: refusals1")
        pair.embedded.kubectl("apply", "-n", name, "-f", "-", stdin=f"{pod}---{DEPLOYMENT}---{DAEMON_SET}")
        running = '{"status":{"phase":"Running"}}'
        pair.embedded.kubectl("patch", "pod", "p1", "-n", name, "--subresource=status", "-p", running)
        return name


@pytest.mark.parametrize(
    ("command", "stdin", "names"),
    [
        ("apply --server-side -f -", CONFIG_MAP, "server-side apply"),
        ("diff --server-side -f -", CONFIG_MAP, "server-side apply"),
        ("port-forward pod/p1 0:80", "", "pods/portforward"),
        ("attach p1", "", "pods/attach"),
        ("debug p1 --image=x --attach=false", "", "pods/ephemeralcontainers"),
        ("proxy-to service", "", "services/proxy"),
        ("proxy-to node", "", "nodes/proxy"),
        ("get pdb", "", "poddisruptionbudgets.policy"),
        ("get hpa", "", "horizontalpodautoscalers.autoscaling"),
        ("get pdb b -o yaml", "", "poddisruptionbudgets.policy"),
        ("get pdb -w", "", "poddisruptionbudgets.policy"),
        ("describe pdb b", "", "poddisruptionbudgets.policy"),
        ("delete pdb b", "", "poddisruptionbudgets.policy"),
        ("apply -f -", BUDGET, "poddisruptionbudgets.policy"),
        ("create -f -", BUDGET, "poddisruptionbudgets.policy"),
        ("diff -f -", BUDGET, "poddisruptionbudgets.policy"),
        ("apply -f -", STATEFUL, "statefulsets.apps"),
        ("apply -f -", POLICY, "validatingadmissionpolicies.admissionregistration.k8s.io"),
        ("apply -f -", WEBHOOK, "validatingwebhookconfigurations.admissionregistration.k8s.io"),
        ("apply -f -", SERVICE, "apiservices.apiregistration.k8s.io"),
        ("apply -f -", RULES, "x-kubernetes-validations"),
        ("autoscale deploy d1 --max=3 --cpu=50%", "", "horizontalpodautoscalers.autoscaling"),
        ("rollout history ds/ds1", "", "controllerrevisions.apps"),
        ("get componentstatuses", "", "componentstatuses"),
        ("get apiservices", "", "apiservices"),
        ("get --raw /metrics", "", "/metrics"),
        ("get --raw /openid/v1/jwks", "", "/openid/v1/jwks"),
        *((f"get {short}", "", plural) for short, plural in SHORT.items()),
    ],
)
def test_refused(pair: Pair, space: str, command: str, stdin: str, names: str) -> None:
    """One line, which names what is missing and the option that has it; a failure in a script."""
    paths = {"service": "services/s:80", "node": ""}
    if command.startswith("proxy-to "):
        what = paths[command.split()[1]]
        place = f"namespaces/{space}/{what}" if what else "nodes/refusals1"
        command = f"get --raw /api/v1/{place}/proxy/a/b"
    said = pair.embedded.kubectl(f"--namespace={space}", *shlex.split(command), stdin=stdin)
    (line,) = [line for line in said.err.splitlines() if "--api-server=real" in line]
    assert names in line
    assert said.code != 0
    assert "configured" not in said.out
    assert "created" not in said.out


def test_what_is_not_here_is_not_listed(pair: Pair) -> None:
    """A kind that is not here is in no list of kinds; explaining it says where it is."""
    assert "poddisruptionbudgets" not in pair.embedded.kubectl("api-resources").out
    explained = pair.embedded.kubectl("explain", "pdb")
    assert explained.code == 0
    assert "start the lab with --api-server=real" in explained.out


def test_nothing_is_half_done(pair: Pair, play: Play) -> None:
    """What was refused has left nothing behind; what need not be there is passed over."""
    pair.embedded.kubectl("apply", "--server-side", "-n", "nothing-is-half-done", "-f", "-", stdin=CONFIG_MAP)
    play(
        Step("get cm c1", code=1, says="not found"),
        Step("get pdb b --ignore-not-found"),
        Step("delete pdb b --ignore-not-found"),
        Step("get all", says="No resources found"),
    )
