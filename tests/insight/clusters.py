"""A healthy cluster as ``podidentity doctor`` sees it, and the objects that cases change."""

from __future__ import annotations

from collections.abc import Mapping

from podidentity.api.core import Node, NodeSpec
from podidentity.api.identity import (
    AzureAssignedIdentity,
    AzureAssignedIdentitySpec,
    AzureAssignedIdentityStatus,
    AzureIdentity,
    AzureIdentityBinding,
    AzureIdentityBindingSpec,
    AzureIdentitySpec,
    AzurePodIdentityException,
    AzurePodIdentityExceptionSpec,
    SecretReference,
)
from podidentity.api.meta import ObjectMeta, OwnerReference
from podidentity.insight.cluster import (
    Capabilities,
    Cluster,
    Condition,
    Container,
    Crd,
    CrdSpec,
    CrdVersion,
    EnvVar,
    LockSeen,
    SecurityContext,
    SeenPod,
    SeenPodSpec,
    SeenPodStatus,
    Told,
)
from podidentity.kube.records import Record

NOW = 1_800_000_000.0
LONG_AGO = "2026-01-01T00:00:00Z"
JUST_NOW = "2027-01-15T07:59:50Z"
"""Ten seconds before NOW."""
RESOURCE = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
PROVIDER = "azure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/node-0"
KINDS = ("azureassignedidentities", "azureidentities", "azureidentitybindings", "azurepodidentityexceptions")


def meta(name: str, namespace: str = "team", **more: object) -> ObjectMeta:
    """Metadata."""
    return ObjectMeta(name=name, namespace=namespace, **more)  # type: ignore[arg-type]  # fields by name


def component(
    name: str,
    *args: str,
    owner: str = "",
    image: str = "",
    ready: bool = True,
    node: str = "node-0",
    namespace: str = "default",
    phase: str = "Running",
    env: Mapping[str, str] | None = None,
) -> SeenPod:
    """A pod of mic or nmi; ``name`` is like ``mic-0``."""
    kind = name.partition("-")[0]
    made = owner or kind
    by = OwnerReference(
        kind="DaemonSet" if kind == "nmi" else "ReplicaSet",
        name=made if kind == "nmi" else f"{made}-5f7d",
        controller=True,
    )
    container = Container(
        image=image or f"podidentity/{kind}:v0.1.0",
        args=args,
        env=tuple(EnvVar(name=key, value=value) for key, value in (env or {}).items()),
    )
    return SeenPod(
        metadata=meta(name, namespace, labels={"component": kind, "app": kind}, owner_references=(by,)),
        spec=SeenPodSpec(
            node_name=node, host_network=kind == "nmi", service_account_name=f"{kind}-account", containers=(container,)
        ),
        status=SeenPodStatus(phase=phase, conditions=(Condition(type="Ready", status="True" if ready else "False"),)),
    )


def pod(
    name: str = "web",
    label: str = "web",
    *,
    namespace: str = "team",
    node: str = "node-0",
    host_network: bool = False,
    drop: tuple[str, ...] = ("ALL",),
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: object,
) -> SeenPod:
    """A pod of a user."""
    worn = {"aadpodidbinding": label} if label else {}
    container = Container(image="web", security_context=SecurityContext(capabilities=Capabilities(drop=drop)))
    return SeenPod(
        metadata=meta(name, namespace, labels=worn | dict(labels or {}), annotations=dict(annotations or {})),
        spec=SeenPodSpec(node_name=node, host_network=host_network, containers=(container,), **spec),  # type: ignore[arg-type]  # fields by name
        status=SeenPodStatus(phase="Running"),
    )


def identity(
    name: str = "app", *, client: str = "", resource: str = "", namespace: str = "team", **annotations: str
) -> AzureIdentity:
    """A user-assigned identity."""
    spec = AzureIdentitySpec(resource_id=resource or RESOURCE + name, client_id=client or f"client-{name}")
    return AzureIdentity(metadata=meta(name, namespace, annotations=annotations), spec=spec)


def principal(name: str = "sp", *, secret_namespace: str = "team", endpoint: str = "") -> AzureIdentity:
    """A service principal with a certificate."""
    password = SecretReference(name="secret", namespace=secret_namespace)
    spec = AzureIdentitySpec(type=2, client_id=name, tenant_id="t", client_password=password, ad_endpoint=endpoint)
    return AzureIdentity(metadata=meta(name), spec=spec)


def binding(
    selector: str = "web", to: str = "app", namespace: str = "team", name: str = "bind"
) -> AzureIdentityBinding:
    """A binding."""
    spec = AzureIdentityBindingSpec(azure_identity=to, selector=selector)
    return AzureIdentityBinding(metadata=meta(name, namespace), spec=spec)


def record(
    state: str = "Assigned", *, of: str = "web", copy: AzureIdentity | None = None, **more: object
) -> AzureAssignedIdentity:
    """The record of a pod."""
    spec = AzureAssignedIdentitySpec(azure_identity_ref=copy or identity(), pod=of, pod_namespace="team")
    worn = {"creation_timestamp": LONG_AGO} | more
    made = meta("web-team-app", "default", **worn)
    return AzureAssignedIdentity(metadata=made, spec=spec, status=AzureAssignedIdentityStatus(status=state))


def exception(name: str = "mic-exception", namespace: str = "default", **labels: str) -> AzurePodIdentityException:
    """An exception."""
    spec = AzurePodIdentityExceptionSpec(pod_labels=labels or {"app": "mic", "component": "mic"})
    return AzurePodIdentityException(metadata=meta(name, namespace), spec=spec)


def crd(kind: str, version: str = "v1") -> Crd:
    """A definition."""
    metadata = ObjectMeta(name=f"{kind}.aadpodidentity.k8s.io")
    return Crd(metadata=metadata, spec=CrdSpec(versions=(CrdVersion(name=version, served=True),)))


def lock(kind: str, holder: str = "mic-0", renewed: str = JUST_NOW) -> LockSeen:
    """A leader's record."""
    return LockSeen(kind, "default/aad-pod-identity-mic", Record(holder, 15, renewed, renewed, 0))


def mic_told(**changes: object) -> tuple[Told, ...]:
    """What the leader tells; ``changes`` go to its one host, and to the rest where the rest has such a field."""
    host = {"host": "node-0", "identitiesWanted": 1, "identitiesPresent": 1, "identitiesInFlight": 0}
    azure = {"readsLeft": 250, "writesLeft": 200, "pausedSeconds": 0.0}
    status: dict[str, object] = {
        "ready": True,
        "notReady": [],
        "watches": {"pods": {"listed": True, "ageSeconds": 12.0}},
        "azure": azure,
    }
    for name, value in changes.items():
        (status if name in status else azure if name in azure else host)[name] = value  # type: ignore[index]  # one each
    return (Told(component("mic-0"), status | {"hosts": [host | {"identitiesQuarantined": 0} | host]}),)


def nmi_told(**changes: object) -> tuple[Told, ...]:
    """What the agent tells."""
    return (Told(component("nmi-0"), {"ready": True, "notReady": [], "datapath": {"inPlace": True}} | changes),)


MICS = (component("mic-0"), component("mic-1"))
AGENT = component("nmi-0", "--http-probe-port=8085")
HEALTHY = Cluster(
    now=NOW,
    pods=(*MICS, AGENT, pod()),
    nodes=(Node(metadata=ObjectMeta(name="node-0"), spec=NodeSpec(provider_id=PROVIDER)),),
    identities=(identity(),),
    bindings=(binding(),),
    assigned=(record(),),
    exceptions=(exception(),),
    crds=tuple(crd(kind) for kind in KINDS),
    locks=(lock("leases"), lock("endpoints")),
    mic_told=mic_told(),
    nmi_told=nmi_told(),
)
