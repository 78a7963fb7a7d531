"""Write the manifests of ``deploy/`` that are variants of ``deployment-rbac.yaml``, text for text: ``make manifests``.

Also the chart's alerts, for those who install without the chart.

One of them is edited by hand, so that the CRDs and the rest of what they share cannot differ. Each edit must find its
text exactly once: a changed source fails here instead of giving a variant that lost its difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
SOURCE = "deployment-rbac.yaml"

_SECRETS_RULE = """  - apiGroups: [""]
    resources: [secrets]
    verbs: [get]
"""
_SECRETS_EXAMPLE = """apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: aad-pod-id-nmi-secrets
  namespace: default
rules:
  - apiGroups: [""]
    resources: [secrets]
    resourceNames: [demo-aad1-sp]
    verbs: [get]
"""
_SECRETS_EXAMPLE_BINDING = """apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: aad-pod-id-nmi-secrets
  namespace: default
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: aad-pod-id-nmi-secrets
subjects:
  - kind: ServiceAccount
    name: aad-pod-id-nmi-service-account
    namespace: default
"""
_RESTRICTED_NOTE = """\
# Takes nmi's right to read every Secret away; types 1 and 2 then need a Role like the one below in each namespace that
# has such identities, naming their Secrets. Apply it after each kubectl apply of the main manifest, which gives the
# right back. Managed mode: remove the rule for secrets from managed-mode-deployment.yaml, and change the subject below
# to namespace kube-system.
"""
_NO_AZURE_JSON_NOTE = """\
# Credentials come from the Secret aadpodidentity-admin-secret, which this file leaves alone. Make it before, once:
#   kubectl create secret generic aadpodidentity-admin-secret --namespace=default \\
#     --from-literal=Cloud=AzurePublicCloud --from-literal=SubscriptionID=... --from-literal=ResourceGroup=... \\
#     --from-literal=TenantID=... --from-literal=ClientID=... --from-literal=ClientSecret=...
# With a managed identity instead of the last two: --from-literal=UseMSI=true, and, when it is user-assigned,
# --from-literal=UserAssignedMSIClientID=...
"""
_AZURE_JSON_VOLUME = """      volumes:
        - name: k8s-azure-file
          hostPath:
            path: /etc/kubernetes/azure.json
"""
_AZURE_JSON_MOUNT = """          volumeMounts:
            - name: k8s-azure-file
              mountPath: /etc/kubernetes/azure.json
              readOnly: true
"""
_CREDENTIALS = (
    ("CLOUD", "Cloud", False),
    ("SUBSCRIPTION_ID", "SubscriptionID", False),
    ("RESOURCE_GROUP", "ResourceGroup", False),
    ("VM_TYPE", "VMType", True),
    ("TENANT_ID", "TenantID", False),
    ("CLIENT_ID", "ClientID", True),
    ("CLIENT_SECRET", "ClientSecret", True),
    ("USE_MSI", "UseMSI", True),
    ("USER_ASSIGNED_MSI_CLIENT_ID", "UserAssignedMSIClientID", True),
)
"""Variable, key of the Secret, whether it may be missing."""

_ALERTS_HEAD = """\
# The alerts of the chart, for the Prometheus operator and an installation without the chart. Prometheus selects rules
# by labels: add those that yours asks for.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: aad-pod-identity
  namespace: default
spec:
  groups:
"""

_KUBENET = '            - "--allow-network-plugin-kubenet=true"\n'
_MANAGED_ARGS = '            - "--operation-mode=managed"\n            - "--forceNamespaced"\n'
_NODE_ARG = '            - "--node=$(NODE_NAME)"\n'
_LAST_NMI_ARG = '            - "--metadata-header-required=true"\n'
_CLOUDCONFIG_ARG = '            - "--cloudconfig=/etc/kubernetes/azure.json"\n'
_POD_NAMESPACE = "                  fieldPath: metadata.namespace\n"
_APPROVED = "    api-approved.kubernetes.io: unapproved\n"
_CHART_LABELS = """  labels:
    app.kubernetes.io/name: aad-pod-identity
    app.kubernetes.io/instance: aad-pod-identity
    app.kubernetes.io/managed-by: Helm
    helm.sh/chart: aad-pod-identity
"""
_AS_ROOT = "            runAsUser: 0\n"
_AS_NOBODY = "            runAsNonRoot: true\n            runAsUser: 65534\n            runAsGroup: 65534\n"

Documents = Mapping[str, str]


def once(text: str, old: str, new: str) -> str:
    """Replace ``old``, which must be there exactly once."""
    if text.count(old) != 1:
        raise SystemExit(f"{SOURCE}: expected exactly once, found {text.count(old)} times:\n{old}")
    return text.replace(old, new)


def documents(text: str) -> dict[str, str]:
    """Split into objects, by ``Kind/name``."""
    found = {}
    for document in text.split("---\n"):
        lines = document.splitlines()
        kind = next(line for line in lines if line.startswith("kind: ")).removeprefix("kind: ")
        name = next(line for line in lines if line.startswith("  name: ")).removeprefix("  name: ")
        found[f"{kind}/{name}"] = document
    return found


def joined(all_of: Documents) -> str:
    """Return the file of these objects."""
    return "---\n".join(all_of.values())


def kubenet(source: Documents) -> str:
    """The switch for kubenet, without which nmi refuses such a node."""
    daemon_set = once(source["DaemonSet/nmi"], _LAST_NMI_ARG, _LAST_NMI_ARG + _KUBENET)
    return joined({**source, "DaemonSet/nmi": daemon_set})


def no_azure_json(source: Documents) -> str:
    """The credentials from a Secret; mic reads no file of the node and needs no root.

    Its pods lack the label ``app: mic``, as the original's: a Deployment's selector cannot be changed in place.
    """
    env = "".join(
        f"            - name: {variable}\n              valueFrom:\n                secretKeyRef:\n"
        f"                  name: aadpodidentity-admin-secret\n                  key: {key}\n"
        + ("                  optional: true\n" if optional else "")
        for variable, key, optional in _CREDENTIALS
    )
    mic = once(source["Deployment/mic"], _CLOUDCONFIG_ARG, "")
    mic = once(mic, _POD_NAMESPACE, _POD_NAMESPACE + env)
    mic = once(once(mic, "\n        app: mic\n", "\n"), "\n      app: mic\n", "\n")
    mic = once(once(mic, _AZURE_JSON_MOUNT, ""), _AZURE_JSON_VOLUME, "")
    return _NO_AZURE_JSON_NOTE + joined({**source, "Deployment/mic": once(mic, _AS_ROOT, _AS_NOBODY)})


def managed(source: Documents) -> str:
    """The nmi alone, in kube-system, with the rights of the mode: on bindings and identities, not what mic writes."""
    found = {
        key: once(text, "  namespace: default\n", "  namespace: kube-system\n")
        if key.startswith(("ServiceAccount/", "ClusterRoleBinding/", "DaemonSet/"))
        else text
        for key, text in source.items()
        if "mic" not in key.rpartition("/")[2].split("-")
        and key != "CustomResourceDefinition/azureassignedidentities.aadpodidentity.k8s.io"
    }
    found["DaemonSet/nmi"] = once(found["DaemonSet/nmi"], _NODE_ARG, _NODE_ARG + _MANAGED_ARGS)
    role = "ClusterRole/aad-pod-id-nmi-role"
    found[role] = once(found[role], "[azureassignedidentities,", "[azureidentities, azureidentitybindings,")
    return joined(found)


def restricted(source: Documents) -> str:
    """The role of nmi without Secrets, and an example of what gives single ones back."""
    role = once(source["ClusterRole/aad-pod-id-nmi-role"], _SECRETS_RULE, "")
    return f"{_RESTRICTED_NOTE}{role}---\n{_SECRETS_EXAMPLE}---\n{_SECRETS_EXAMPLE_BINDING}"


def chart_crds(source: Documents) -> str:
    """The CRDs as the chart has them, with the labels of the original's chart."""
    return joined(
        {
            key: once(text, _APPROVED, _APPROVED + _CHART_LABELS)
            for key, text in source.items()
            if key.startswith("CustomResourceDefinition/")
        }
    )


def alerts(groups: str) -> str:
    """The chart's groups of rules as an object."""
    return _ALERTS_HEAD + "".join(f"    {line}\n" for line in groups.splitlines())


VARIANTS: Mapping[str, Callable[[Documents], str]] = {
    "charts/aad-pod-identity/crds/crd.yaml": chart_crds,
    "podidentityforkubenet.yaml": kubenet,
    "managed-mode-deployment.yaml": managed,
    "noazurejson/deployment-rbac.yaml": no_azure_json,
    "nmi-secrets-restricted.yaml": restricted,
}


def rendered(deploy: Path = DEPLOY) -> dict[str, str]:
    """Return each variant's file name and text."""
    source = documents((deploy / SOURCE).read_text())
    found = {name: variant(source) for name, variant in VARIANTS.items()}
    # The original's name of the same file.
    found["mic-exception.yaml"] = (deploy / "podidentityexception.yaml").read_text()
    found["alerts.yaml"] = alerts((deploy / "charts/aad-pod-identity/files/alerts.yaml").read_text())
    return found


def main() -> None:
    """Write them."""
    for name, text in rendered().items():
        (DEPLOY / name).parent.mkdir(parents=True, exist_ok=True)
        (DEPLOY / name).write_text(text)


if __name__ == "__main__":
    main()
