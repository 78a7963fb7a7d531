"""The walkthrough's main job, from an empty cloud to the secret in a pod without a password."""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from podidentity.config.errors import ConfigError
from podidentity.lab import access
from podidentity.lab.azure import UserAssignedIdentity
from podidentity.lab.cluster import Answer
from podidentity.lab.running import RunningLab
from podidentity.lab.scenarios import objects
from podidentity.lab.story import Story
from podidentity.manifests import rendering
from podidentity.manifests.shipped import shipped

SECRET = "kvs-test01"  # noqa: S105 - the secret's name; its value is random
IDENTITY = "uai1"
POD = "nginx-secrets-store-inline"
APPLIED = (
    "serviceaccount/aad-pod-id-nmi-service-account",
    "customresourcedefinition.apiextensions.k8s.io/azureassignedidentities.aadpodidentity.k8s.io",
    "customresourcedefinition.apiextensions.k8s.io/azureidentitybindings.aadpodidentity.k8s.io",
    "customresourcedefinition.apiextensions.k8s.io/azureidentities.aadpodidentity.k8s.io",
    "customresourcedefinition.apiextensions.k8s.io/azurepodidentityexceptions.aadpodidentity.k8s.io",
    "clusterrole.rbac.authorization.k8s.io/aad-pod-id-nmi-role",
    "clusterrolebinding.rbac.authorization.k8s.io/aad-pod-id-nmi-binding",
    "daemonset.apps/nmi",
    "serviceaccount/aad-pod-id-mic-service-account",
    "clusterrole.rbac.authorization.k8s.io/aad-pod-id-mic-role",
    "clusterrolebinding.rbac.authorization.k8s.io/aad-pod-id-mic-binding",
    "deployment.apps/mic",
)


def random_secret() -> str:
    """16 characters with the signs that break shells and YAML."""
    return "".join(secrets.choice(string.ascii_letters + string.digits + "+<_!-") for _ in range(16))


@dataclass(slots=True)
class Walkthrough:
    """One play of the story in a running lab."""

    lab: RunningLab
    story: Story
    value: str = field(default_factory=random_secret)
    identity: UserAssignedIdentity | None = None

    def steps(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """The story's steps, in order."""
        return (
            self.roles,
            self.infrastructure,
            self.identity_and_binding,
            self.vault,
            self.secret_in_pod,
            self.azure_sdk,
            self.refusal,
            self.counts,
        )

    async def play(self) -> None:
        """Play all steps."""
        for step in self.steps():
            await step()

    def show(self, answer: Answer, *, limit: int = 30) -> Answer:
        """Print a command and what it answered; a failed command is a claim that does not hold."""
        self.story.typed(answer.typed)
        self.story.answered(answer.text, limit=limit)
        if answer.code:
            self.story.claim(f"{answer.typed} succeeds", answer.code == 0, f"exit code {answer.code}")
        return answer

    async def roles(self) -> None:
        """The four role assignments of the walkthrough."""
        self.story.step("Give the cluster's identities the two roles pod identity needs")
        spec = self.lab.spec
        principals = {
            "control plane": spec.control_plane_principal_id,
            "kubelet": spec.kubelet_principal_id,
        }
        for who, principal in principals.items():
            for role in ("Managed Identity Operator", "Virtual Machine Contributor"):
                scope = spec.subscription_scope
                self.story.typed(
                    f'az role assignment create --assignee-object-id {principal} --role "{role}" --scope {scope}'
                )
                made = await self.lab.azure.assign_role(principal, role, scope)
                self.story.answered(f"{who}: .../roleAssignments/{made.rsplit('/', 1)[-1]}")
        self.story.why("mic works as the kubelet identity: now it may attach identities.")

    async def infrastructure(self) -> None:
        """The shipped manifests, the exceptions, and what then runs."""
        cluster = self.lab.cluster
        self.story.step("Install mic, nmi and csi-provider, and the exceptions")
        answer = self.show(await cluster.apply(shipped("podidentityforkubenet.yaml")))
        created = [f"{name} created" for name in APPLIED]
        self.story.claim(
            "the manifest's twelve objects are created in the walkthrough's order",
            answer.text.split("\n")[:-1] == created,
        )
        self.show(await cluster.apply(shipped("podidentityexception.yaml")))
        self.show(await cluster.apply(shipped("csi-provider.yaml")))
        nodes = self.lab.spec.node_count
        try:
            with self.story.waiting("mic, nmi and csi-provider become ready"):
                await cluster.until("mic, nmi and csi-provider are ready", lambda: self._ready(2 + 2 * nodes))
        except ConfigError as error:
            raise ConfigError(f"{error}; {await access.why_not_ready(cluster.client, 'default')}") from None
        answer = self.show(await cluster.get("pods"))
        mics = [line.split()[0] for line in answer.text.splitlines() if line.startswith("mic-")]
        leader = await self._leader()
        self.show(await cluster.logs(leader if leader in mics else mics[0]))
        self.story.why("The shipped manifests, with real processes in real namespaces.")

    async def _leader(self) -> str:
        """Name of the mic pod that leads, empty when none does yet."""
        leases = await self.lab.cluster.objects("/apis/coordination.k8s.io/v1/namespaces/default/leases")
        holders = [spec.get("holderIdentity") for lease in leases if isinstance(spec := lease.get("spec"), Mapping)]
        return str(holders[0]) if holders else ""

    async def _ready(self, count: int) -> bool:
        pods = await self.lab.cluster.objects("/api/v1/namespaces/default/pods")
        return sum(_is_ready(pod) for pod in pods) >= count

    async def identity_and_binding(self) -> None:
        """The user-assigned identity in Azure, and the two objects that declare it."""
        self.story.step("Make a user-assigned identity and declare it in the cluster")
        spec, folder = self.lab.spec, self.lab.layout.root / "manifests"
        self.story.typed(f"az identity create --name {IDENTITY} --resource-group {spec.resource_group}")
        self.identity = await self.lab.azure.create_identity(IDENTITY, spec.resource_group)
        self.story.answered(f"clientId: {self.identity.properties.client_id}\nid: {self.identity.id}")
        folder.mkdir(exist_ok=True)
        values = rendering.IdentityValues(IDENTITY, self.identity.id, self.identity.properties.client_id)
        for name, text in rendering.identity_files(values).items():
            (folder / name).write_text(text)
            self.show(await self.lab.cluster.apply(folder / name))
        self.story.why(f"Pods labelled aadpodidbinding: {IDENTITY}-binding get it, no others do.")

    async def vault(self) -> None:
        """A vault with a random secret that only the identity may read."""
        self.story.step("Make a key vault with a secret that only this identity may read")
        spec, identity = self.lab.spec, self._identity()
        self.story.typed(f"az keyvault create --name {spec.vault} --resource-group {spec.resource_group}")
        principal = identity.properties.principal_id
        await self.lab.azure.create_vault(spec.vault, spec.resource_group, principal)
        self.story.typed(f"az keyvault set-policy --name {spec.vault} --object-id {principal} --secret-permissions get")
        self.story.typed(f"az keyvault secret set --vault-name {spec.vault} --name {SECRET} --value ****************")
        version = await self.lab.azure.set_secret(spec.vault, SECRET, self.value)
        self.story.answered(f"https://{spec.vault}.vault.azure.net/secrets/{SECRET}/{version}")
        self.story.facts["secretVersion"] = version
        self.story.why("The value is random: whoever knows it has asked the vault.")

    async def secret_in_pod(self) -> None:
        """SecretProviderClass and pod; then ls and cat, as the walkthrough ends."""
        self.story.step("Start a pod that mounts the secret, with no password in its definition")
        spec, identity = self.lab.spec, self._identity()
        folder = self.lab.layout.root / "manifests"
        version = str(self.story.facts["secretVersion"])
        values = rendering.VaultValues(spec.vault, identity.properties.client_id, SECRET, spec.tenant_id, version)
        (folder / "secretproviderclass.yaml").write_text(rendering.render_secret_provider_class(values))
        (folder / "pod.yaml").write_text(rendering.render_pod(rendering.PodValues(IDENTITY, spec.vault)))
        await self.mounted(folder / "secretproviderclass.yaml", folder / "pod.yaml")

    async def mounted(self, *files: Path) -> None:
        """Apply the files, the pod among them, and read the secret in the pod."""
        cluster = self.lab.cluster
        for path in files:
            self.show(await cluster.apply(path))
        with self.story.waiting(f"{POD} becomes ready"):
            seconds = await cluster.until(f"pod {POD} is ready", lambda: self._pod_ready(POD))
        self.story.facts["secondsToReady"] = round(seconds, 2)
        self.show(await cluster.get("azureassignedidentity", all_namespaces=True))
        listed = self.show(await cluster.run(POD, "ls", "/mnt/secrets-store"))
        read = self.show(await cluster.run(POD, "cat", f"/mnt/secrets-store/{SECRET}"))
        self.story.claim(f"ls shows {SECRET} and nothing else", listed.text == f"{SECRET}\n", repr(listed.text))
        self.story.claim("cat prints the vault's secret, byte for byte", read.text == self.value)
        self.story.why("mic attached the identity, nmi gave its token, the vault opened.")

    async def azure_sdk(self) -> None:
        """The unmodified Azure SDK in a second pod."""
        self.story.step("Read the same secret with the unmodified Azure SDK")
        vault_url = f"https://{self.lab.spec.vault}.vault.azure.net"
        pod = objects.program_pod(
            "azure-sdk", objects.SDK_PROGRAM, {"VAULT_URL": vault_url, "SECRET": SECRET}, f"{IDENTITY}-binding"
        )
        text = await self._run_to_end("azure-sdk", pod)
        digest = hashlib.sha256(self.value.encode()).hexdigest()
        self.story.claim(
            "DefaultAzureCredential and SecretClient read the same secret", digest in text, text.strip()[:300]
        )
        self.story.why("DefaultAzureCredential() asked 169.254.169.254: no credential given.")

    async def refusal(self) -> None:
        """A pod without the label."""
        self.story.step("Ask for a token in a pod without the label")
        pod = objects.program_pod("unlabelled", objects.CURL_PROGRAM, {})
        text = await self._run_to_end("unlabelled", pod)
        self.story.claim(
            "a pod without the label is refused",
            text.startswith(("404", "403")) and "access_token" not in text,
            text.strip()[:200],
        )
        self.story.why("No label, no identity: nmi refuses the request itself.")

    async def _run_to_end(self, name: str, pod: Mapping[str, object]) -> str:
        cluster = self.lab.cluster
        path = objects.write_yaml(self.lab.layout.root / "manifests" / f"{name}.yaml", pod)
        self.show(await cluster.apply(path))
        with self.story.waiting(f"{name} runs to its end"):
            await cluster.until(f"pod {name} has ended", lambda: self._ended(name), within=150)
        return self.show(await cluster.logs(name)).text

    async def counts(self) -> None:
        """What the simulated Azure counted."""
        self.story.step("Ask the simulated Azure what it saw")
        counters = await self.lab.azure.counters()
        self.story.answered(counters.describe())
        self.story.facts["imdsRequestsFromPods"] = counters.imds_requests("pod")
        self.story.claim(
            "no pod reached the metadata service itself",
            counters.imds_requests("pod") == 0,
            f"requests: {counters.imds_requests('pod')}",
        )
        self.story.claim(
            "one identity, one PATCH of the scale set", counters.arm_patches == 1, f"PATCHes: {counters.arm_patches}"
        )
        self.story.why("What pods sent to 169.254.169.254 ended at nmi on their node.")

    def _identity(self) -> UserAssignedIdentity:
        if self.identity is None:
            raise RuntimeError("the identity is made in an earlier step")
        return self.identity

    async def _pod_ready(self, name: str) -> bool:
        return _is_ready({"status": await access.status_of(self.lab.cluster.client, "default", name)})

    async def _ended(self, name: str) -> bool:
        status = await access.status_of(self.lab.cluster.client, "default", name)
        return status.get("phase") in ("Succeeded", "Failed")


def _is_ready(pod: Mapping[str, object]) -> bool:
    status = pod.get("status")
    conditions = status.get("conditions") if isinstance(status, Mapping) else None
    if not isinstance(conditions, list):
        return False
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions if isinstance(c, Mapping))
