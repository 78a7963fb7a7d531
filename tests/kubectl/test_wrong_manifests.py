"""Wrong manifests of built-in kinds: both servers refuse them in the same words."""

from __future__ import annotations

from collections.abc import Callable

from tests.kubectl.clusters import Step
from tests.kubectl.objects import CONFIG_MAP, DAEMON_SET, DEPLOYMENT, POD

Play = Callable[..., None]
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: s1}
spec: {selector: {a: b}, ports: [{name: web, port: 80}]}
"""
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: s1}
data: {a: aGk=}
"""
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r1}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
"""
BINDING = """
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: b1}
roleRef: {kind: Role, name: r1, apiGroup: rbac.authorization.k8s.io}
subjects: [{kind: ServiceAccount, name: a, namespace: b}]
"""
LEASE = """
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: l1}
spec: {holderIdentity: me, leaseDurationSeconds: 15}
"""


def wrong(manifest: str, old: str, new: str, says: str = "") -> Step:
    """Creating a manifest in which something is another; it is refused."""
    assert old in manifest, old
    return Step("create -f -", manifest.replace(old, new, 1), code=1, says=says)


def test_wrong_pods(play: Play) -> None:
    """A pod that could never run is refused with each of its faults."""
    play(
        wrong(POD, "image:", "imag:", 'unknown field "spec.containers[0].imag"'),
        wrong(POD, "kind: Pod", "kind: Pots", "no matches for kind"),
        wrong(POD, "apiVersion: v1", "apiVersion: v2", "no matches for kind"),
        wrong(POD, "name: p1, ", "", "name or generateName is required"),
        wrong(POD, "name: p1", "name: P_1", "a lowercase RFC 1123 subdomain"),
        wrong(POD, "labels: {app: a}", "labels: {app: 'a b'}", "a valid label must be"),
        wrong(POD, "labels: {app: a}", "labels: {'a b': a}", "name part must consist of"),
        wrong(POD, "labels: {app: a}", "labels: {app: 1}", "cannot unmarshal number"),
        wrong(POD, "labels: {app: a}", "annotations: {'a b': a}", "name part must consist of"),
        wrong(POD, "name: main", "name: Main", "a lowercase RFC 1123 label"),
        wrong(POD, "name: main, ", "", "spec.containers[0].name: Required value"),
        wrong(POD, ', image: "x:1"', "", "spec.containers[0].image: Required value"),
        wrong(POD, 'image: "x:1"', 'image: ""', "spec.containers[0].image: Required value"),
        wrong(POD, 'image: "x:1"', 'image: " x"', "must not have leading or trailing whitespace"),
        wrong(POD, "containerPort: 80", "containerPort: 99999", "must be between 1 and 65535"),
        wrong(POD, "containerPort: 80", "containerPort: x", "cannot unmarshal string"),
        wrong(POD, "containerPort: 80", "containerPort: 80, protocol: X", "supported values"),
        wrong(POD, "{name: A, value: b}", "{name: 'A=', value: b}", "environment variable name"),
        wrong(POD, "{name: A, value: b}", "{value: b}", "env[0].name: Required value"),
        wrong(POD, "spec:", "spec:\n  restartPolicy: Nope", "Unsupported value"),
        wrong(POD, "spec:", "spec:\n  dnsPolicy: Nope", "Unsupported value"),
        wrong(POD, "spec:", "spec:\n  nodeName: N_1", ""),
        wrong(POD, "spec:", "spec:\n  serviceAccountName: none", "error looking up service account"),
        wrong(POD, "spec:", "spec:\n  priorityClassName: none", "no PriorityClass with name none was found"),
        wrong(POD, "spec:", "spec:\n  volumes: [{name: V}]", "a lowercase RFC 1123 label"),
        wrong(POD, "spec:", "spec:\n  volumes: [{name: v}, {name: v}]", "Duplicate value"),
        wrong(POD, "spec:", "spec:\n  volumes: [{name: v, hostPath: {}}]", "hostPath.path: Required value"),
        wrong(
            POD, "spec:", "spec:\n  volumes: [{name: v, emptyDir: {}, hostPath: {path: /x}}]", "may not specify more"
        ),
        wrong(POD, "name: main,", "name: main, imagePullPolicy: Nope,", "Unsupported value"),
        wrong(POD, "name: main,", "name: main, volumeMounts: [{name: v, mountPath: /v}],", "Not found"),
        wrong(POD, "name: main,", "name: main, volumeMounts: [{name: v}],", "mountPath: Required value"),
        wrong(POD, "name: main,", "name: main, resources: {limits: {cpu: x}},", "quantities must match"),
        wrong(
            POD, "name: main,", "name: main, resources: {limits: {cpu: 1}, requests: {cpu: 2}},", "less than or equal"
        ),
        wrong(POD, "name: main,", "name: main, livenessProbe: {periodSeconds: 1},", "must specify a handler type"),
        wrong(POD, "name: main,", "name: main, livenessProbe: {httpGet: {path: /}},", ""),
        wrong(POD, "name: main,", "name: main, lifecycle: {preStop: {}},", "must specify a handler type"),
        wrong(POD, "  - {name: main", "  - {name: main, image: x}\n  - {name: main", "Duplicate value"),
        Step("create -f - -n nowhere", POD, code=1, says='namespaces "nowhere" not found'),
        Step("get pods", says="No resources found"),
    )


def test_wrong_workloads(play: Play) -> None:
    """A workload that could never have a pod is refused with each of its faults."""
    play(
        wrong(DEPLOYMENT, "  selector: {matchLabels: {app: d}}\n", "", "spec.selector: Required value"),
        wrong(DEPLOYMENT, "matchLabels: {app: d}", "matchLabels: {app: e}", "`selector` does not match template"),
        wrong(DEPLOYMENT, "matchLabels: {app: d}", "matchLabels: {}", "empty selector is invalid"),
        wrong(DEPLOYMENT, "spec:", "spec:\n  replicas: -1", "must be greater than or equal to 0"),
        wrong(DEPLOYMENT, "spec:", "spec:\n  replicas: x", "cannot unmarshal string"),
        wrong(DEPLOYMENT, "spec:", "spec:\n  strategy: {type: Nope}", "Unsupported value"),
        wrong(DEPLOYMENT, "        image: x:1\n", "", "spec.template.spec.containers[0].image: Required value"),
        wrong(
            DEPLOYMENT, "      nodeSelector:", "      restartPolicy: Never\n      nodeSelector:", "Unsupported value"
        ),
        wrong(DEPLOYMENT, "args:", "argz:", "unknown field"),
        wrong(
            DAEMON_SET, "      nodeSelector:", "      restartPolicy: Never\n      nodeSelector:", "Unsupported value"
        ),
        wrong(DAEMON_SET, "matchLabels: {app: ds}", "matchLabels: {app: e}", "`selector` does not match template"),
        wrong(DAEMON_SET, "spec:", "spec:\n  replicas: 1", 'unknown field "spec.replicas"'),
        Step("get all", says="No resources found"),
    )


def test_wrong_plain_objects(play: Play) -> None:
    """So is every other kind of object."""
    play(
        wrong(CONFIG_MAP, '{a: "1"}', "{a: 1}", "cannot unmarshal number"),
        wrong(CONFIG_MAP, '{a: "1"}', "{'a b': x}", "a valid config key must consist of"),
        wrong(CONFIG_MAP, 'data: {a: "1"}', "binaryData: {a: '!'}", "illegal base64"),
        wrong(CONFIG_MAP, 'data: {a: "1"}', 'data: {a: "1"}\nbinaryData: {a: aGk=}', "duplicate of key"),
        wrong(CONFIG_MAP, "\ndata:", "\ndat:", 'unknown field "dat"'),
        wrong(CONFIG_MAP, "name: c1", f"name: {'c' * 254}", "must be no more than 253"),
        wrong(SECRET, "aGk=", "'!'", "illegal base64"),
        wrong(SECRET, "{a: aGk=}", "{'a b': aGk=}", "a valid config key must consist of"),
        wrong(SERVICE, "ports: [{name: web, port: 80}]", "ports: []", "spec.ports: Required value"),
        wrong(SERVICE, "port: 80", "port: 0", "must be between 1 and 65535"),
        wrong(SERVICE, "name: web, port: 80", "port: 80}, {port: 81", "spec.ports[0].name: Required value"),
        wrong(SERVICE, "name: s1", "name: 1x", "a DNS-1035 label must consist of"),
        wrong(SERVICE, "spec: {", "spec: {type: Nope, ", "Unsupported value"),
        wrong(SERVICE, "spec: {", "spec: {clusterIP: x, ", ""),
        wrong(ROLE, "verbs: [get]", "verbs: []", "verbs must contain at least one value"),
        wrong(ROLE, 'apiGroups: [""], ', "", "resource rules must supply at least one api group"),
        wrong(ROLE, "resources: [pods], ", "", "resource rules must supply at least one resource"),
        wrong(BINDING, "roleRef: {kind: Role, name: r1, ", "roleRef: {kind: Role, ", "roleRef.name: Required value"),
        wrong(BINDING, "kind: Role, name", "kind: Rolle, name", "Unsupported value"),
        wrong(BINDING, "kind: ServiceAccount, name: a", "kind: ServiceAccount", "subjects[0].name: Required value"),
        wrong(BINDING, "kind: ServiceAccount", "kind: Nobody", "Unsupported value"),
        wrong(LEASE, "leaseDurationSeconds: 15", "leaseDurationSeconds: 0", "must be greater than 0"),
        Step("create ns Bad_Name", code=1, says="a lowercase RFC 1123 label"),
        Step("create sa Bad_Name", code=1, says="a lowercase RFC 1123 subdomain"),
        Step("get role,rolebinding,secret,svc,lease", says="No resources found"),
    )
