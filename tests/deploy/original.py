"""The original's objects as an installation of it has them, written from the contract: what ours are applied over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Obj = dict[str, Any]
GROUP = "aadpodidentity.k8s.io"
IMAGES = "mcr.microsoft.com/oss/azure/aad-pod-identity"
TEXT: Obj = {"type": "string"}
NUMBER: Obj = {"type": "integer"}
REPLICAS: Obj = {"type": "integer", "format": "int32"}
ANYTHING: Obj = {"type": "object"}
IDENTITY: Obj = {
    "type": NUMBER,
    "resourceID": TEXT,
    "clientID": TEXT,
    "clientPassword": {"type": "object", "properties": {"name": TEXT, "namespace": TEXT}},
    "tenantID": TEXT,
    "auxiliaryTenantIDs": {"type": "array", "items": TEXT, "nullable": True},
    "adResourceID": TEXT,
    "adEndpoint": TEXT,
    "replicas": {**REPLICAS, "nullable": True},
}
BINDING: Obj = {"azureIdentity": TEXT, "selector": TEXT, "weight": NUMBER}
AVAILABLE: Obj = {"availableReplicas": REPLICAS}


def schema(spec: Mapping[str, Obj], status: Mapping[str, Obj], *, embedded: bool = False) -> Obj:
    """The schema of one kind; nothing in it is required."""
    found: Obj = {
        "type": "object",
        "properties": {
            "apiVersion": TEXT,
            "kind": TEXT,
            "metadata": ANYTHING,
            "spec": {"type": "object", "properties": {"metadata": ANYTHING, **spec}},
            "status": {"type": "object", "properties": {"metadata": ANYTHING, **status}},
        },
    }
    return {**found, "x-kubernetes-embedded-resource": True} if embedded else found


ASSIGNED: Obj = {
    "azureIdentityRef": schema(IDENTITY, AVAILABLE, embedded=True),
    "azureBindingRef": schema(BINDING, AVAILABLE, embedded=True),
    "pod": TEXT,
    "podNamespace": TEXT,
    "nodename": TEXT,
    "replicas": {**REPLICAS, "nullable": True},
}


def column(name: str, kind: str, path: str) -> Obj:
    """A printer column."""
    return {"name": name, "type": kind, "jsonPath": path}


AGE = column("Age", "date", ".metadata.creationTimestamp")


def crd(kind: str, plural: str, found: Obj, *columns: Obj, subresources: bool = False) -> Obj:
    """One CRD, as controller-gen 0.5.0 wrote it."""
    version: Obj = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": found}}
    if columns:
        version["additionalPrinterColumns"] = [*columns, AGE]
    if subresources:
        version["subresources"] = {}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    annotations = {"api-approved.kubernetes.io": "unapproved", "controller-gen.kubebuilder.io/version": "v0.5.0"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "annotations": annotations},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
        "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []},
    }


ASSIGNED_CRD = crd(
    "AzureAssignedIdentity",
    "azureassignedidentities",
    schema(ASSIGNED, {"status": TEXT, "availableReplicas": REPLICAS}),
)
CRDS: tuple[Obj, ...] = (
    crd(
        "AzureIdentity",
        "azureidentities",
        schema(IDENTITY, AVAILABLE),
        column("Type", "string", ".spec.type"),
        column("ClientID", "string", ".spec.clientID"),
        subresources=True,
    ),
    crd(
        "AzureIdentityBinding",
        "azureidentitybindings",
        schema(BINDING, AVAILABLE),
        column("AzureIdentity", "string", ".spec.azureIdentity"),
        column("Selector", "string", ".spec.selector"),
        subresources=True,
    ),
    crd(
        "AzurePodIdentityException",
        "azurepodidentityexceptions",
        schema({"podLabels": {"type": "object", "additionalProperties": TEXT}}, {"status": TEXT}),
    ),
)


def account(component: str, namespace: str) -> Obj:
    """A ServiceAccount."""
    name = f"aad-pod-id-{component}-service-account"
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def rule(group: str, resources: Sequence[str], *verbs: str) -> Obj:
    """A rule of a role."""
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


READ = ("get", "list", "watch")


def role(component: str, *rules: Obj) -> Obj:
    """A ClusterRole."""
    name = f"aad-pod-id-{component}-role"
    metadata = {"name": name, "labels": {"k8s-app": name}}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}


def role_binding(component: str, namespace: str) -> Obj:
    """A ClusterRoleBinding."""
    name = f"aad-pod-id-{component}-binding"
    who = {"kind": "ServiceAccount", "name": f"aad-pod-id-{component}-service-account", "namespace": namespace}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": {"k8s-app": name}},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": f"aad-pod-id-{component}-role",
        },
        "subjects": [who],
    }


def nmi_role(*, managed: bool = False) -> Obj:
    """What nmi was allowed."""
    kinds = ["azureidentitybindings", "azureidentities", "azurepodidentityexceptions"]
    rules = [
        rule("apiextensions.k8s.io", ["customresourcedefinitions"], "get", "list"),
        rule("", ["pods"], *READ),
        rule("", ["secrets"], "get"),
        rule(GROUP, kinds, *READ),
    ]
    return role("nmi", *rules, *(() if managed else (rule(GROUP, ["azureassignedidentities"], *READ),)))


def mic_role() -> Obj:
    """What mic was allowed, the verb Kubernetes does not know included."""
    return role(
        "mic",
        rule("apiextensions.k8s.io", ["customresourcedefinitions"], "*"),
        rule("", ["pods", "nodes"], "list", "watch"),
        rule("", ["events"], "create", "patch"),
        rule("", ["configmaps"], "get", "create", "update"),
        rule("", ["endpoints"], "create", "get", "update"),
        rule(GROUP, ["azureidentitybindings", "azureidentities"], *READ, "post", "update"),
        rule(GROUP, ["azurepodidentityexceptions"], "list", "update"),
        rule(GROUP, ["azureassignedidentities"], "*"),
    )


def field(name: str, path: str) -> Obj:
    """A variable from the pod itself."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def host_path(name: str, path: str, **more: str) -> Obj:
    """A volume of the node's."""
    return {"name": name, "hostPath": {"path": path, **more}}


def mount(name: str, path: str, **more: bool) -> Obj:
    """A mount."""
    return {"name": name, "mountPath": path, **more}


def probe(port: int) -> Obj:
    """The liveness probe."""
    return {"httpGet": {"path": "/healthz", "port": port}, "initialDelaySeconds": 10, "periodSeconds": 5}


def resources(memory: str) -> Obj:
    """Requests and limits."""
    return {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "200m", "memory": memory}}


NMI_ARGS = ("--node=$(NODE_NAME)", "--http-probe-port=8085")
SCALE_ARGS = ("--enableScaleFeatures=true", "--metadata-header-required=true")
LINUX = {"kubernetes.io/os": "linux"}


def daemon_set(version: str, args: Sequence[str], namespace: str = "default", *, strategy: bool = True) -> Obj:
    """The DaemonSet ``nmi``."""
    labels = {"component": "nmi", "tier": "node"}
    pull = {"imagePullPolicy": "Always"} if version == "v1.7.3" else {}
    container = {
        "name": "nmi",
        "image": f"{IMAGES}/nmi:{version}",
        **pull,
        "args": list(args),
        "env": [field("HOST_IP", "status.podIP"), field("NODE_NAME", "spec.nodeName")],
        "resources": resources("512Mi"),
        "securityContext": {
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH", "NET_ADMIN", "NET_RAW"]},
        },
        "volumeMounts": [
            mount("iptableslock", "/run/xtables.lock"),
            mount("kubelet-config", "/etc/default/kubelet", readOnly=True),
        ],
        "livenessProbe": probe(8085),
    }
    pod = {
        "serviceAccountName": "aad-pod-id-nmi-service-account",
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "nodeSelector": LINUX,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [
            host_path("iptableslock", "/run/xtables.lock", type="FileOrCreate"),
            host_path("kubelet-config", "/etc/default/kubelet", type="FileOrCreate"),
        ],
    }
    spec: Obj = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    if strategy:
        spec["updateStrategy"] = {"type": "RollingUpdate"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "nmi", "namespace": namespace, "labels": {**labels, "k8s-app": "aad-pod-id"}},
        "spec": spec,
    }


CREDENTIALS = {
    "CLOUD": "Cloud",
    "SUBSCRIPTION_ID": "SubscriptionID",
    "RESOURCE_GROUP": "ResourceGroup",
    "VM_TYPE": "VMType",
    "TENANT_ID": "TenantID",
    "CLIENT_ID": "ClientID",
    "CLIENT_SECRET": "ClientSecret",
}


def deployment(version: str, *, from_secret: bool = False) -> Obj:
    """The Deployment ``mic``; with its credentials ``from_secret`` it has another selector, as the original's file."""
    labels = {"component": "mic", **({} if from_secret else {"app": "mic"})}
    env = [field("MIC_POD_NAMESPACE", "metadata.namespace")]
    args = ["--cloudconfig=/etc/kubernetes/azure.json", "--logtostderr"]
    if from_secret:
        args = ["--logtostderr"]
        for variable, key in CREDENTIALS.items():
            reference = {"name": "aadpodidentity-admin-secret", "key": key}
            env.append({"name": variable, "valueFrom": {"secretKeyRef": reference}})
    container = {
        "name": "mic",
        "image": f"{IMAGES}/mic:{version}",
        "args": args,
        "env": env,
        "resources": resources("1024Mi"),
        "securityContext": {"runAsUser": 0, "readOnlyRootFilesystem": True},
        "livenessProbe": probe(8080),
    }
    pod: Obj = {
        "serviceAccountName": "aad-pod-id-mic-service-account",
        "nodeSelector": LINUX,
        "containers": [container],
    }
    if not from_secret:
        container["volumeMounts"] = [mount("k8s-azure-file", "/etc/kubernetes/azure.json", readOnly=True)]
        pod["volumes"] = [host_path("k8s-azure-file", "/etc/kubernetes/azure.json")]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "mic",
            "namespace": "default",
            "labels": {"component": "mic", "k8s-app": "aad-pod-id"},
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _nmi(daemon: Obj, *, managed: bool = False) -> list[Obj]:
    namespace = daemon["metadata"]["namespace"]
    crds = CRDS if managed else (ASSIGNED_CRD, *CRDS)
    return [account("nmi", namespace), *crds, nmi_role(managed=managed), role_binding("nmi", namespace), daemon]


def _mic(*last: Obj) -> list[Obj]:
    return [account("mic", "default"), mic_role(), role_binding("mic", "default"), *last]


SECRET: Obj = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "aadpodidentity-admin-secret", "namespace": "default"},
    "type": "Opaque",
    "data": dict.fromkeys(CREDENTIALS.values(), "c2VjcmV0"),
}
MANAGED_ARGS = (NMI_ARGS[0], "--operation-mode=managed", "--forceNamespaced", NMI_ARGS[1], *SCALE_ARGS)
INSTALLATIONS: Mapping[str, list[Obj]] = {
    "deployment-rbac.yaml": [*_nmi(daemon_set("v1.8.17", (*NMI_ARGS, *SCALE_ARGS))), *_mic(deployment("v1.8.17"))],
    "podidentityforkubenet.yaml": [
        *_nmi(daemon_set("v1.7.3", (*NMI_ARGS, "--allow-network-plugin-kubenet=true"))),
        *_mic(deployment("v1.7.3")),
    ],
    "managed-mode-deployment.yaml": _nmi(daemon_set("v1.8.17", MANAGED_ARGS, "kube-system"), managed=True),
    "noazurejson/deployment-rbac.yaml": [
        *_nmi(daemon_set("v1.8.17", (*NMI_ARGS, *SCALE_ARGS), strategy=False)),
        *_mic(SECRET, deployment("v1.8.17", from_secret=True)),
    ],
}
"""By the name of the file of ours that replaces it."""


def exceptions() -> list[Obj]:
    """The two of ``mic-exception.yaml``."""
    found = []
    for name, namespace, labels in (
        ("mic-exception", "default", {"app": "mic", "component": "mic"}),
        ("aks-addon-exception", "kube-system", {"kubernetes.azure.com/managedby": "aks"}),
    ):
        metadata = {"name": name, "namespace": namespace}
        kind = {"apiVersion": f"{GROUP}/v1", "kind": "AzurePodIdentityException"}
        found.append({**kind, "metadata": metadata, "spec": {"podLabels": labels}})
    return found
