"""``podidentity lab get|apply|logs|exec``: the few things a person does to a cluster, for machines without kubectl."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import yaml

from podidentity.config.errors import ConfigError
from podidentity.config.flags import nearest
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import ApiError, NotFound

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
MAX_MANIFEST = 4 * 2**20
"""Characters a manifest may have: far more than the API takes of one object, and safe to parse."""
ESTABLISHING = 20.0
"""Seconds an API server may take until it serves what a definition defines."""
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
Document = Mapping[str, object]


def segment(name: str) -> str:
    """``name`` as one segment of a path; ConfigError for one that no object can have and that would change the path."""
    if name in {"", ".", ".."} or "/" in name:
        raise ConfigError(f'"{name}" cannot be the name of an object or namespace')
    return quote(name, safe="")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind as discovery describes it; ``base`` is ``/api/v1`` or ``/apis/GROUP/VERSION``."""

    base: str
    group: str
    plural: str
    kind: str
    namespaced: bool
    names: frozenset[str]

    def path(self, namespace: str, name: str = "") -> str:
        """The path of the collection or object; an empty namespace means all of them."""
        scope = f"/namespaces/{segment(namespace)}" if self.namespaced and namespace else ""
        return f"{self.base}{scope}/{self.plural}" + (f"/{segment(name)}" if name else "")

    @property
    def printed(self) -> str:
        """How kubectl names it: ``daemonset.apps``, ``pod``."""
        return f"{self.kind.lower()}.{self.group}" if self.group else self.kind.lower()


def _mapping(value: object) -> Document:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> list[Document]:
    return [_mapping(item) for item in value] if isinstance(value, list) else []


def _kinds(document: Document) -> Iterable[Kind]:
    for group in _sequence(document.get("items")):
        name = str(_mapping(group.get("metadata")).get("name", ""))
        for version in _sequence(group.get("versions")):
            label = str(version.get("version"))
            base = f"/apis/{name}/{label}" if name else f"/api/{label}"
            for entry in _sequence(version.get("resources")):
                plural = str(entry.get("resource"))
                kind = str(_mapping(entry.get("responseKind")).get("kind"))
                short = entry.get("shortNames")
                aliases = {plural, str(entry.get("singularResource", "")), kind.lower(), f"{plural}.{name}"}
                aliases |= set(short) if isinstance(short, list) else set()
                yield Kind(base, name, plural, kind, entry.get("scope") == "Namespaced", frozenset(aliases))


async def discover(client: KubeClient) -> list[Kind]:
    """Every kind the server has, core group first."""
    kinds: list[Kind] = []
    for path in ("/api", "/apis"):
        kinds += _kinds(json.loads(await client.raw("GET", path, accept=DISCOVERY)))
    return kinds


def find_kind(kinds: Iterable[Kind], word: str) -> Kind:
    """The kind a person means by ``word`` (plural, singular, short name); ConfigError when there is none."""
    known = list(kinds)
    for kind in known:
        if word.lower() in kind.names:
            return kind
    near = nearest(word, {name for kind in known for name in kind.names if name})
    raise ConfigError(f'the server has no resource type "{word}"' + (f"; did you mean {near}?" if near else ""))


async def get_table(client: KubeClient, kind: Kind, namespace: str, name: str, *, all_namespaces: bool) -> str:
    """What ``kubectl get`` prints: aligned columns, or one line that says there is nothing."""
    scope = "" if all_namespaces else namespace
    answer = json.loads(await client.raw("GET", kind.path(scope, name), accept=TABLE))
    columns = [column for column in answer.get("columnDefinitions", []) if not column.get("priority")]
    shown = [index for index, column in enumerate(answer["columnDefinitions"]) if not column.get("priority")]
    header = [str(column["name"]).upper() for column in columns]
    rows = [["" if row["cells"][i] is None else str(row["cells"][i]) for i in shown] for row in answer.get("rows", [])]
    if all_namespaces and kind.namespaced:
        header.insert(0, "NAMESPACE")
        for cells, row in zip(rows, answer["rows"], strict=True):
            cells.insert(0, str(row["object"]["metadata"].get("namespace", "")))
    if not rows:
        return "No resources found" + (f" in {scope} namespace." if scope and kind.namespaced else ".")
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    return "\n".join(
        "   ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in [header, *rows]
    )


class _NoAliases(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for more objects than any machine holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse an alias where PyYAML would follow it."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken; write the value out")
        return super().compose_node(parent, index)


def read_documents(path: Path) -> list[Document]:
    """The objects of a YAML file, those of a List one by one.

    ConfigError with file and line where it is not YAML, with what an object lacks, or when there is none.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_MANIFEST + 1)
        if len(text) > MAX_MANIFEST:
            raise ConfigError(
                f"{path}: larger than {MAX_MANIFEST // 2**20} MiB; a manifest is not, so name another file"
            )
        documents = [item for item in yaml.load_all(text, _NoAliases) if item is not None]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    documents = [part for item in documents for part in _parts(item)]
    if not documents:
        raise ConfigError(f"{path}: no object in it; write one, or name another file")
    for index, item in enumerate(documents, 1):
        metadata = _mapping(_mapping(item).get("metadata"))
        if not (_mapping(item).get("apiVersion") and _mapping(item).get("kind") and metadata.get("name")):
            raise ConfigError(f"{path}: object {index} has no apiVersion, kind or metadata.name; add it")
    return documents


def _parts(document: object) -> list[object]:
    """The items of a List, anything else as it is."""
    inside = _mapping(document)
    items = inside.get("items")
    return items if inside.get("kind") == "List" and isinstance(items, list) else [document]


def _unknown(kinds: Iterable[Kind], base: str, word: str) -> str:
    """The kind ``word`` of apiVersion ``base`` is not there: what to do."""
    elsewhere = sorted({kind.base.split("/", 2)[2] for kind in kinds if kind.kind == word})
    advice = f"write apiVersion: {' or '.join(elsewhere)}" if elsewhere else "apply its CRD first"
    return f"the server has no {word} in {base}; {advice}"


async def apply(client: KubeClient, path: Path, namespace: str = "default") -> AsyncIterator[str]:
    """Create or change every object of a file, in order; yields one line each as ``kubectl apply`` prints it."""
    documents = read_documents(path)
    kinds = await discover(client)
    for document in documents:
        base, word = str(document["apiVersion"]), str(document["kind"])
        wanted = _find(kinds, base, word)
        if wanted is None and await _is_defined(client, base, word):
            kinds = await _until_served(client, base, word)
            wanted = _find(kinds, base, word)
        if wanted is None:
            raise ConfigError(f"{path}: {_unknown(kinds, base, word)}")
        metadata = _mapping(document["metadata"])
        target = wanted.path(str(metadata.get("namespace") or namespace), str(metadata["name"]))
        try:
            outcome = await _apply_one(client, target, document)
        except ApiError as error:
            raise ConfigError(f"{path}: {wanted.printed}/{metadata['name']}: {error}") from None
        yield f"{wanted.printed}/{metadata['name']} {outcome}"


def _find(kinds: Iterable[Kind], base: str, word: str) -> Kind | None:
    """The kind ``word`` of apiVersion ``base``."""
    return next((kind for kind in kinds if kind.kind == word and kind.base.endswith(f"/{base}")), None)


async def _is_defined(client: KubeClient, base: str, word: str) -> bool:
    """Whether a CustomResourceDefinition has the kind, though discovery does not tell of it (yet)."""
    try:
        definitions = json.loads(await client.raw("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"))
    except ApiError:
        return False
    group, _, version = base.partition("/")
    return any(
        (spec.get("group"), _mapping(spec.get("names")).get("kind")) == (group, word)
        and version in {one.get("name") for one in _sequence(spec.get("versions"))}
        for spec in (_mapping(item.get("spec")) for item in _sequence(definitions.get("items")))
    )


async def _until_served(client: KubeClient, base: str, word: str) -> list[Kind]:
    """All kinds, once that one is among them, or after ``ESTABLISHING`` seconds without it."""
    kinds = await discover(client)
    with suppress(TimeoutError):
        async with asyncio.timeout(ESTABLISHING):
            while _find(kinds, base, word) is None:
                await asyncio.sleep(0.1)
                kinds = await discover(client)
    return kinds


async def _apply_one(client: KubeClient, target: str, document: Document) -> str:
    try:
        before = json.loads(await client.raw("GET", target))
    except NotFound:
        await client.raw("POST", target.rsplit("/", 1)[0], params={"fieldValidation": "Strict"}, body=document)
        return "created"
    after = json.loads(
        await client.raw(
            "PATCH",
            target,
            params={"fieldValidation": "Strict"},
            body=document,
            content_type="application/merge-patch+json",
        )
    )
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return "unchanged" if same else "configured"


async def pod_logs(
    client: KubeClient, namespace: str, pod: str, *, tail: int | None = None, since: int | None = None
) -> str:
    """The log of a pod's only (or first) container."""
    params = {key: str(value) for key, value in (("tailLines", tail), ("sinceSeconds", since)) if value is not None}
    path = f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}/log"
    return (await client.raw("GET", path, params=params)).decode(errors="replace")


async def status_of(client: KubeClient, namespace: str, pod: str) -> Document:
    """``status`` of a pod; empty when it does not exist."""
    try:
        return _mapping(json.loads(await client.raw("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")).get("status"))
    except ApiError as error:
        if isinstance(error, NotFound):
            return {}
        raise


async def why_not_ready(client: KubeClient, namespace: str) -> str:
    """The first pod that is not ready, the state of its container, and the last line of its log."""
    pods = json.loads(await client.raw("GET", f"/api/v1/namespaces/{namespace}/pods")).get("items", [])
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            if container.get("ready"):
                continue
            name = pod["metadata"]["name"]
            reason = next(
                (detail.get("reason", name) for name, detail in container.get("state", {}).items()), "unknown"
            )
            try:
                lines = (await pod_logs(client, namespace, name, tail=1)).splitlines()
            except ApiError as error:
                lines = [str(error)]
            return f"pod {name} is not ready ({reason}): {lines[-1] if lines else 'it wrote nothing'}"
    return f"{len(pods)} pods exist and all of them are ready"
