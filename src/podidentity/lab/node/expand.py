"""Environment and arguments of a container, from its spec and what it refers to. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from podidentity.lab.node.objects import ContainerSpec, EnvFrom, EnvSource, EnvVar, FullPod, KeyRef

Kind = Literal["configmap", "secret"]
Sources = Mapping[tuple[Kind, str], Mapping[str, bytes] | None]
"""What each referred object holds, by kind and name; None: it does not exist."""

_REFERENCE: Final = re.compile(r"\$(\$|\(([^()]*)\))")
_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class UnresolvedError(Exception):
    """A container cannot be configured; the text is what ``kubectl describe`` shall show."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What fieldRefs may ask for besides the pod itself."""

    node_name: str
    host_ip: str
    pod_ip: str


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace ``$(NAME)``; unknown names stay as written, ``$$`` is a dollar."""

    def replace(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return env.get(found[2], found[0])

    return _REFERENCE.sub(replace, text)


def _quoted(items: Mapping[str, str]) -> str:
    return "\n".join(f'{key}="{value}"' for key, value in sorted(items.items()))


def field_value(pod: FullPod, path: str, facts: PodFacts) -> str:
    """The value of a fieldRef. Raises UnresolvedError for a path that Kubernetes does not allow."""
    meta = pod.metadata
    simple = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "metadata.labels": _quoted(meta.labels),
        "metadata.annotations": _quoted(meta.annotations),
        "spec.nodeName": facts.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
    }
    if path in simple:
        return simple[path]
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return (meta.labels if subscript[1] == "labels" else meta.annotations).get(subscript[2], "")
    raise UnresolvedError(f"fieldPath {path!r} is not supported")


def _from(item: EnvFrom) -> tuple[Kind, str, bool] | None:
    if item.config_map_ref:
        return "configmap", item.config_map_ref.name, item.config_map_ref.optional
    if item.secret_ref:
        return "secret", item.secret_ref.name, item.secret_ref.optional
    return None


def _key_reference(source: EnvSource) -> tuple[Kind, KeyRef] | None:
    if source.secret_key_ref:
        return "secret", source.secret_key_ref
    if source.config_map_key_ref:
        return "configmap", source.config_map_key_ref
    return None


def references(container: ContainerSpec) -> frozenset[tuple[Kind, str]]:
    """The Secrets and ConfigMaps that the environment needs, by kind and name."""
    whole = [found[:2] for item in container.env_from if (found := _from(item))]
    sources = [item.value_from for item in container.env if item.value_from]
    keys = [(key[0], key[1].name) for source in sources if (key := _key_reference(source))]
    return frozenset([*whole, *keys])


def _imported(container: ContainerSpec, sources: Sources) -> Iterator[tuple[str, str]]:
    for item in container.env_from:
        found = _from(item)
        if found is None:
            continue
        kind, name, optional = found
        data = sources.get((kind, name))
        if data is None and not optional:
            raise UnresolvedError(f'{kind} "{name}" not found')
        for key, value in sorted((data or {}).items()):
            yield item.prefix + key, value.decode(errors="replace")


def _value(pod: FullPod, item: EnvVar, sources: Sources, facts: PodFacts) -> str | None:
    """The value of a ``valueFrom``; None when it is optional and missing."""
    source = item.value_from or EnvSource()
    if source.field_ref:
        return field_value(pod, source.field_ref.field_path, facts)
    found = _key_reference(source)
    if found is None:
        raise UnresolvedError(f"the source of environment variable {item.name} is not supported")
    kind, reference = found
    data = sources.get((kind, reference.name))
    if data is not None and reference.key in data:
        return data[reference.key].decode(errors="replace")
    if reference.optional:
        return None
    if data is None:
        raise UnresolvedError(f'{kind} "{reference.name}" not found')
    place = "Secret" if kind == "secret" else "ConfigMap"
    raise UnresolvedError(f"couldn't find key {reference.key} in {place} {pod.namespace}/{reference.name}")


def environment(
    pod: FullPod, container: ContainerSpec, base: Mapping[str, str], sources: Sources, facts: PodFacts
) -> dict[str, str]:
    """The container's variables on top of ``base``; later ones see earlier ones. Raises UnresolvedError."""
    env = dict(base)
    env.update(_imported(container, sources))
    for item in container.env:
        if item.value_from is None:
            env[item.name] = expand(item.value, env)
            continue
        value = _value(pod, item, sources, facts)
        if value is not None:
            env[item.name] = value
    return env
