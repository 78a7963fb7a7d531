"""The walkthrough's sections 7 and 8, typed with the real kubectl at a lab on either API server, answer by answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from tests.e2e.conftest import new_lab
from tests.e2e.stage import is_ready, name_of, until
from tests.e2e.transcript import Answer, Typist, differs
from tests.real_server import kubernetes_programs

from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios.walkthrough import random_secret
from podidentity.manifests.shipped import shipped

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

UAI, SECRET, POD = "uai1", "kvs-test01", "nginx-secrets-store-inline"

W5 = """
serviceaccount/aad-pod-id-nmi-service-account created
customresourcedefinition.apiextensions.k8s.io/azureassignedidentities.aadpodidentity.k8s.io created
customresourcedefinition.apiextensions.k8s.io/azureidentitybindings.aadpodidentity.k8s.io created
customresourcedefinition.apiextensions.k8s.io/azureidentities.aadpodidentity.k8s.io created
customresourcedefinition.apiextensions.k8s.io/azurepodidentityexceptions.aadpodidentity.k8s.io created
clusterrole.rbac.authorization.k8s.io/aad-pod-id-nmi-role created
clusterrolebinding.rbac.authorization.k8s.io/aad-pod-id-nmi-binding created
daemonset.apps/nmi created
serviceaccount/aad-pod-id-mic-service-account created
clusterrole.rbac.authorization.k8s.io/aad-pod-id-mic-role created
clusterrolebinding.rbac.authorization.k8s.io/aad-pod-id-mic-binding created
deployment.apps/mic created
"""
W6 = """
azurepodidentityexception.aadpodidentity.k8s.io/mic-exception created
azurepodidentityexception.aadpodidentity.k8s.io/aks-addon-exception created
"""
W7 = """
NAME  READY  STATUS  RESTARTS  AGE
<mic>  1/1  Running  0  <age>
<mic>  1/1  Running  0  <age>
<nmi>  1/1  Running  0  <age>
<nmi>  1/1  Running  0  <age>
"""
STANDBY = """
<klog> starting mic process. Version: <version>. Build date: <date>
<klog> --kubeconfig not passed will use InClusterConfig
<klog> kubeconfig () cloudconfig (/etc/kubernetes/azure.json)
<klog> running MIC in namespaced mode: false
<klog> client QPS set to: adaptive
<klog> starting to create the pod identity client. Version: <version>. Build date: <date>
<klog> Kubernetes server version: <version>
<klog> MIC using user assigned identity: <redacted> for authentication.
<klog> initialized health probe on port 8080
<klog> started health probe
<klog> registered views for metric
<klog> starting Prometheus exporter
<klog> registered and exported metrics on port 8888
<klog> initiating MIC Leader election
<klog> attempting to acquire leader lease  default/aad-pod-identity-mic...
"""
W8 = f"""{STANDBY}
<klog> successfully acquired lease default/aad-pod-identity-mic
<klog> upgrading the types to work with case sensitive go-client
<klog> type upgrade completed !!
<klog> CRD informers started
<klog> pod cache synchronized. Took <took>
<klog> pod watcher started !!
<klog> sync thread started.
""".replace("\n\n", "\n")
MANIFESTS = ("podidentityforkubenet.yaml", "deployment-rbac.yaml", "podidentityexception.yaml", "csi-provider.yaml")
OURS = (
    "settings verbosity=",
    "assigned identities are written without a limit",
    "found 0 pods, 0 ids, 0 bindings",
    "waiting for the leader ",
)
"""Lines of mic's start that the original has not."""
W9 = """
NAME  TYPE  CLIENTID  AGE
uai1  0  <client-id>  <age>
"""
W10 = """
NAME  AZUREIDENTITY  SELECTOR  AGE
uai1-binding  uai1  uai1-binding  <age>
"""
W15 = """
NAMESPACE  NAME  AGE
default  nginx-secrets-store-inline-default-uai1  <age>
"""

IDENTITY = """\
apiVersion: "aadpodidentity.k8s.io/v1"
kind: AzureIdentity
metadata:
  name: {name}
spec:
  type: 0
  resourceID: {id}
  clientID: {client}"""
BINDING = """\
apiVersion: "aadpodidentity.k8s.io/v1"
kind: AzureIdentityBinding
metadata:
  name: {name}-binding
spec:
  azureIdentity: {name}
  selector: {name}-binding"""
BLANKS = "            "
"""The walkthrough's file has them at the ends of some lines."""
SECRET_PROVIDER_CLASS = f"""\
apiVersion: secrets-store.csi.x-k8s.io/v1alpha1
kind: SecretProviderClass
metadata:
  name: {{vault}}
spec:
  provider: azure
  parameters:
    usePodIdentity: "true"{BLANKS}
    userAssignedIdentityID: {{client}}
    keyvaultName: {{vault}}
    cloudName: ""{BLANKS}
    objects:  |
      array:
        - |
          objectName: {SECRET}
          objectAlias: {SECRET}{BLANKS}
          objectType: secret{BLANKS}
          objectVersion: {{version}}{BLANKS}
    tenantId: {{tenant}}{BLANKS}
"""
WORKLOAD = f"""\
apiVersion: v1
kind: Pod
metadata:
  name: {POD}
  labels:
    aadpodidbinding: {{name}}-binding
spec:
  containers:
    - name: nginx
      image: nginx
      volumeMounts:
        - name: secrets-store-inline
          mountPath: "/mnt/secrets-store"
          readOnly: true
  volumes:
    - name: secrets-store-inline
      csi:
        driver: secrets-store.csi.k8s.io
        readOnly: true
        volumeAttributes:
          secretProviderClass: {{vault}}
"""


@dataclass
class Played:
    """What was answered to each command, by the command."""

    lab: RunningLab
    typist: Typist
    value: str = field(default_factory=random_secret)
    answers: dict[str, Answer] = field(default_factory=dict)
    leader: str = ""
    mics: tuple[str, ...] = ()

    async def type(self, command: str) -> Answer:
        """Type a command and keep its answer."""
        self.answers[command] = answer = await self.typist.type(command)
        return answer

    async def play(self) -> None:
        """All commands of the two sections, in order."""
        await self._infrastructure()
        await self._identity()
        await self._workload()

    async def _pods(self) -> dict[str, bool]:
        found = await self.lab.cluster.objects("/api/v1/namespaces/default/pods")
        return {name_of(pod): is_ready(pod) for pod in found}

    async def _ready(self, count: int) -> bool:
        pods = await self._pods()
        return len(pods) == count and all(pods.values())

    async def _infrastructure(self) -> None:
        for name in MANIFESTS:
            shutil.copy(shipped(name), self.typist.folder)
        spec, azure = self.lab.spec, self.lab.azure
        for principal in (spec.control_plane_principal_id, spec.kubelet_principal_id):
            for role in ("Managed Identity Operator", "Virtual Machine Contributor"):
                await azure.assign_role(principal, role, spec.subscription_scope)
        await self.type("kubectl apply -f podidentityforkubenet.yaml")
        await self.type("kubectl apply -f podidentityexception.yaml")
        await until(lambda: self._ready(4), "two mics and two nmis are ready", 90)
        await self.type("kubectl get pods")
        self.mics = tuple(name for name in await self._pods() if name.startswith("mic-"))

        async def leads() -> bool:
            answer = await self.type("kubectl get lease aad-pod-identity-mic -o jsonpath={.spec.holderIdentity}")
            self.leader = answer.out.decode()
            logs = [await self.type(f"kubectl logs {name} --since=300s") for name in self.mics]
            return sum(b"sync thread started." in log.out for log in logs) == 1 and all(
                b"attempting to acquire leader lease" in log.out for log in logs
            )

        await until(leads, "one mic leads and the other waits", 30)

    async def _identity(self) -> None:
        made = await self.lab.azure.create_identity(UAI, self.lab.spec.resource_group)
        values = {"name": UAI, "id": made.id, "client": made.properties.client_id}
        folder = self.typist.folder / "PodId"
        folder.mkdir()
        (folder / f"{UAI}.yaml").write_text(IDENTITY.format(**values))
        (folder / f"{UAI}_Binding.yaml").write_text(BINDING.format(**values))
        await self.type(f"kubectl apply -f PodId/{UAI}.yaml")
        await self.type(f"kubectl apply -f PodId/{UAI}_Binding.yaml")
        await self.type("kubectl get azureidentity")
        await self.type("kubectl get azureidentitybinding")
        spec, azure = self.lab.spec, self.lab.azure
        await azure.create_vault(spec.vault, spec.resource_group, made.properties.principal_id)
        values |= {"vault": spec.vault, "tenant": spec.tenant_id}
        values["version"] = await azure.set_secret(spec.vault, SECRET, self.value)
        (self.typist.folder / "secretproviderclass.yaml").write_text(SECRET_PROVIDER_CLASS.format(**values))
        (self.typist.folder / "pod.yaml").write_text(WORKLOAD.format(**values))

    async def _workload(self) -> None:
        await self.type("kubectl apply -f csi-provider.yaml")
        await self.type("kubectl apply -f secretproviderclass.yaml")
        await self.type("kubectl apply -f pod.yaml")
        await self.type(f"kubectl wait --for=condition=Ready pod/{POD} --timeout=90s")
        await self.type(f"kubectl get pod {POD}")
        await self.type("kubectl get azureassignedidentity -A")
        await self.type(f"kubectl exec {POD} -- ls /mnt/secrets-store")
        await self.type(f"kubectl exec {POD} -- cat /mnt/secrets-store/{SECRET}")

    def differs(self, command: str, shape: str) -> str:
        """Where the answer to ``command`` differs from ``shape``."""
        return differs(shape, self.answers[command].text)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["embedded", "real"])
async def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Played]:
    """The two sections, typed in a new lab on that API server."""
    found = kubernetes_programs("kubectl", *(["kube-apiserver"] if request.param == "real" else []))
    kubectl, folder = found.require("kubectl"), tmp_path_factory.mktemp("walkthrough")
    async with new_lab(kubectl=str(kubectl), api_server=request.param) as lab:
        played = Played(lab, Typist(kubectl, lab.layout.kubeconfig, folder))
        await played.play()
        yield played


async def test_w5_twelve_objects_are_created(played: Played) -> None:
    """One manifest installs all of it, named in the walkthrough's order; who follows along sees the same lines."""
    assert not played.differs("kubectl apply -f podidentityforkubenet.yaml", W5)


async def test_w6_exceptions_right_after_their_crd(played: Played) -> None:
    """The exceptions can be applied in the same second as the CRD they are of."""
    assert not played.differs("kubectl apply -f podidentityexception.yaml", W6)


async def test_w7_pods_run(played: Played) -> None:
    """`kubectl get pods` shows two mics and one nmi a node, ready, never restarted, with names of the known pattern."""
    assert not played.differs("kubectl get pods", W7)


async def test_w8_the_leader_says_what_it_does(played: Played) -> None:
    """A person who greps the leader's log finds the original's lines, in its order and format."""
    assert played.leader in played.mics
    assert not differs(W8, _of_the_original(played, played.leader))


async def test_w8_the_standby_waits(played: Played) -> None:
    """The other replica's log ends where it waits for the lease."""
    (standby,) = set(played.mics) - {played.leader}
    assert not differs(STANDBY, _of_the_original(played, standby))


def _of_the_original(played: Played, pod: str) -> str:
    lines = played.answers[f"kubectl logs {pod} --since=300s"].text.splitlines()
    return "\n".join(line for line in lines if not line.partition("] ")[2].startswith(OURS))


async def test_w8_the_version_is_the_servers(played: Played) -> None:
    """The version in mic's log is the one `kubectl version` tells."""
    told = json.loads((await played.type("kubectl version -o json")).text)["serverVersion"]["gitVersion"]
    assert f"Kubernetes server version: {told}\n" in played.answers[f"kubectl logs {played.leader} --since=300s"].text


async def test_w9_w10_identity_and_binding(played: Played) -> None:
    """Files made from the walkthrough's templates are taken as they are, and listed with the CRDs' own columns."""
    assert not played.differs(f"kubectl apply -f PodId/{UAI}.yaml", "azureidentity.aadpodidentity.k8s.io/uai1 created")
    assert not played.differs(
        f"kubectl apply -f PodId/{UAI}_Binding.yaml",
        "azureidentitybinding.aadpodidentity.k8s.io/uai1-binding created",
    )
    assert not played.differs("kubectl get azureidentity", W9)
    assert not played.differs("kubectl get azureidentitybinding", W10)


async def test_w14_w15_class_and_pod(played: Played) -> None:
    """The walkthrough's own class (old version, blanks at line ends) and pod work, without a restart of the pod."""
    vault = played.lab.spec.vault
    assert not played.differs(
        "kubectl apply -f secretproviderclass.yaml",
        f"secretproviderclass.secrets-store.csi.x-k8s.io/{vault} created",
    )
    assert not played.differs("kubectl apply -f pod.yaml", f"pod/{POD} created")
    assert not played.differs(f"kubectl wait --for=condition=Ready pod/{POD} --timeout=90s", f"pod/{POD} condition met")
    assert not played.differs(
        f"kubectl get pod {POD}", f"NAME  READY  STATUS  RESTARTS  AGE\n{POD}  1/1  Running  0  <age>"
    )
    assert not played.differs("kubectl get azureassignedidentity -A", W15)


async def test_w16_one_file(played: Played) -> None:
    """`ls` in the pod shows the secret's file and nothing else."""
    assert played.answers[f"kubectl exec {POD} -- ls /mnt/secrets-store"] == Answer(0, f"{SECRET}\n".encode(), b"")


async def test_w17_the_secret_byte_for_byte(played: Played) -> None:
    """`cat` in the pod prints the vault's value, with no newline added."""
    command = f"kubectl exec {POD} -- cat /mnt/secrets-store/{SECRET}"
    assert played.answers[command] == Answer(0, played.value.encode(), b"")


async def test_w5_applied_again(played: Played) -> None:
    """A second apply changes nothing; the CRDs name a field that servers do not store, hence their `configured`."""
    again = (await played.type("kubectl apply -f podidentityforkubenet.yaml")).text
    lines = W5.replace(" created", " unchanged").splitlines()
    said = [line.replace("unchanged", "configured") if "customresourcedef" in line else line for line in lines]
    assert not differs("\n".join(said), again)


async def test_w4_kubenet_has_to_be_allowed(played: Played) -> None:
    """Our kubenet manifest has the walkthrough's three arguments; without that for kubenet nmi says why it ends."""
    typed = await played.type("kubectl get daemonset nmi -o jsonpath={.spec.template.spec.containers[0].args}")
    arguments = ["--node=$(NODE_NAME)", "--http-probe-port=8085", "--allow-network-plugin-kubenet=true"]
    assert [item for item in json.loads(typed.text) if item in arguments] == arguments
    assert (await played.type("kubectl apply -f deployment-rbac.yaml")).text.count("daemonset.apps/nmi configured") == 1

    async def told() -> bool:
        logs = await played.type("kubectl logs --selector component=nmi,tier=node --prefix --tail=1")
        return b"podidentity nmi: AAD Pod Identity is not supported for Kubenet. Review " in logs.out

    await until(told, "nmi says that kubenet is not supported", 60)


@pytest.mark.parametrize(
    ("shape", "text", "same"),
    [
        ("NAME  AGE\n<nmi>  <age>", "NAME        AGE\nnmi-gjjx6   2m45s\n", True),
        ("NAME  AGE\n<nmi>  <age>", "NAME        AGE\nnmi-aaaaa   2m45s\n", False),
        ("NAME  AGE\n<nmi>  <age>", "NAME        AGE\nnmi-gjjx6  2m45s\n", False),
        ("NAME  AGE\n<nmi>  <age>", "NAME        AGE\n", False),
        ("a b", "a b\n\n", False),
        ("a b", "a  b", False),
        ("<klog> x", "I0207 02:22:34.337410       1 main.go:136] x\n", True),
        ("<klog> x", "I0207 02:22:34.337410       1 main.go:136] x y\n", False),
    ],
)
async def test_shapes_are_strict(shape: str, text: str, same: bool) -> None:
    """A shape that takes anything would show nothing."""
    assert (not differs(shape, text)) is same
