"""The rights of the shipped roles, one verb of one resource each, and accounts that have all of them but one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from tests.deploy.original import Obj

from podidentity.kube.auth import StaticToken
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import NotFound
from podidentity.kube.settings import KubeSettings

ROOT: Final = Path(__file__).resolve().parents[2]
TABLE: Final = ROOT / "docs" / "reference" / "rbac.md"
FILES: Final = {
    "mic": "deployment-rbac.yaml",
    "nmi": "deployment-rbac.yaml",
    "nmi (managed)": "managed-mode-deployment.yaml",
    "nmi (token review)": "nmi-token-review.yaml",
}
"""Who, as the table calls them, and the file with their role."""

REVIEWING: Final = "nmi (token review)"

_ROW: Final = re.compile(
    r"\| (?P<who>[^|]+) \| (?P<verb>[a-z]+) \| (?P<resource>[a-z]+) \| (?P<why>[^|]+) \| (?P<breaks>[^|]+) "
    r"\| `(?P<message>[^`]+)` \|"
)


@dataclass(frozen=True, slots=True)
class Right:
    """A verb of a resource; ``names`` limits it to objects of these names."""

    group: str
    resource: str
    verb: str
    names: tuple[str, ...] = ()

    def rule(self) -> Obj:
        """The rule that grants just this."""
        named = {"resourceNames": list(self.names)} if self.names else {}
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb], **named}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table in the docs; ``message`` is what the log says, ``...`` for what lies between its parts."""

    who: str
    verb: str
    resource: str
    message: str

    def __str__(self) -> str:
        """A name for the test."""
        return f"{self.who}-{self.verb}-{self.resource}".replace(" ", "-")

    def said_in(self, log: str) -> bool:
        """Whether a line says it."""
        parts = [re.escape(part) for part in self.message.split("...")]
        return re.search(".*".join(parts), log) is not None


def rows() -> list[Row]:
    """The table of the docs."""
    found = (_ROW.fullmatch(line) for line in TABLE.read_text().splitlines())
    return [Row(row["who"], row["verb"], row["resource"], row["message"]) for row in found if row]


def rights(who: str) -> list[Right]:
    """What the shipped role grants."""
    name = "aad-pod-id-nmi-token-review" if who == REVIEWING else f"aad-pod-id-{who.partition(' ')[0]}-role"
    objects = yaml.safe_load_all((ROOT / "deploy" / FILES[who]).read_text())
    role = next(one for one in objects if (one["kind"], one["metadata"]["name"]) == ("ClusterRole", name))
    return expanded(role["rules"])


def all_rights(who: str) -> list[Right]:
    """What the component has in that mode: the optional file comes on top of the others."""
    return rights("nmi") + rights(who) if who == REVIEWING else rights(who)


def expanded(rules: Sequence[Obj]) -> list[Right]:
    """The rights that rules grant, one by one."""
    return [
        Right(group, resource, verb, tuple(rule.get("resourceNames", ())))
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


async def grant(admin: KubeClient, who: str, namespace: str, granted: Sequence[Right]) -> None:
    """Change what an account made by ``account`` may do."""
    name = f"rights-{namespace}-{who.partition(' ')[0]}"
    role = {"metadata": {"name": name}, "rules": [one.rule() for one in granted]}
    await admin.raw("PUT", f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}", body=role)


async def account(admin: KubeClient, who: str, namespace: str, granted: Sequence[Right]) -> KubeSettings:
    """Make the component's ServiceAccount in ``namespace`` with these rights; give what it signs in with."""
    component = who.partition(" ")[0]
    name, cluster_wide = f"aad-pod-id-{component}-service-account", f"rights-{namespace}-{component}"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    await admin.raw("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", body={"metadata": {"name": name}})
    role = {"metadata": {"name": cluster_wide}, "rules": [one.rule() for one in granted]}
    await admin.raw("POST", f"{rbac}/clusterroles", body=role)
    binding = {
        "metadata": {"name": cluster_wide},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_wide},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    await admin.raw("POST", f"{rbac}/clusterrolebindings", body=binding)
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    token = json.loads(await admin.raw("POST", path, body={"spec": {}}))["status"]["token"]
    await _until_granted(admin, f"system:serviceaccount:{namespace}:{name}", granted[-1])
    return KubeSettings(server=admin.settings.server, ca_file=admin.settings.ca_file, token_source=StaticToken(token))


async def _until_granted(admin: KubeClient, user: str, right: Right) -> None:
    """The API server takes up roles from a watch of its own, a moment after they were written."""
    attributes = {"group": right.group, "resource": right.resource, "verb": right.verb}
    if right.names:
        attributes["name"] = right.names[0]
    body = {"spec": {"user": user, "resourceAttributes": attributes}}
    async with asyncio.timeout(10):
        while True:
            answer = await admin.raw("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
            if json.loads(answer)["status"]["allowed"]:
                return
            await asyncio.sleep(0.01)


async def forget_accounts(admin: KubeClient, namespace: str) -> None:
    """Take away the roles, bindings and accounts made for ``namespace``, and what mic keeps there."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    for kind in ("clusterroles", "clusterrolebindings"):
        found = json.loads(await admin.raw("GET", f"{rbac}/{kind}"))["items"]
        for name in (one["metadata"]["name"] for one in found):
            if name.startswith(f"rights-{namespace}-"):
                await admin.raw("DELETE", f"{rbac}/{kind}/{name}")
    core = f"/api/v1/namespaces/{namespace}"
    for path in (
        *(f"{core}/serviceaccounts/aad-pod-id-{component}-service-account" for component in ("mic", "nmi")),
        f"{core}/endpoints/aad-pod-identity-mic",
        f"{core}/configmaps/aad-pod-identity-config",
        f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/aad-pod-identity-mic",
    ):
        with contextlib.suppress(NotFound):
            await admin.raw("DELETE", path)
