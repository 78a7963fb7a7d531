"""What makes workloads, services, roles and bindings invalid, in kube-apiserver's words (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from podidentity.lab.kube import podrules, wrong
from podidentity.lab.kube.errors import Cause
from podidentity.lab.kube.objects import Obj, dig, go_value

_STRATEGIES: Final = ("Recreate", "RollingUpdate")
_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_SUBJECTS: Final = ("ServiceAccount", "User", "Group")
_IP_RULE: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def workload(obj: Obj, kind: str) -> Iterator[Cause]:
    """Each fault of a Deployment, ReplicaSet or DaemonSet; ``kind`` as messages name it."""
    spec, template = obj.get("spec") or {}, dig(obj, "spec", "template") or {}
    selector, labels = spec.get("selector"), dig(template, "metadata", "labels") or {}
    if isinstance(spec.get("replicas"), int) and spec["replicas"] < 0:
        yield wrong.invalid_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    if selector is None:
        yield wrong.missing("spec.selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield wrong.invalid_value("spec.selector", selector, f"empty selector is invalid for {kind}")
    matched = (selector or {}).get("matchLabels") or {}
    if selector is None or any(labels.get(key) != value for key, value in matched.items()):
        why = "`selector` does not match template `labels`"
        yield wrong.invalid_value("spec.template.metadata.labels", labels, why)
    yield from podrules.faults(template.get("spec") or {}, "spec.template.spec", ("Always",))
    chosen = dig(spec, "strategy", "type")
    if chosen and chosen not in _STRATEGIES:
        text = f'Unsupported value: {{"Type":{go_value(chosen)},"RollingUpdate":null}}: supported values: '
        supported = ", ".join(map(go_value, _STRATEGIES))
        yield Cause("FieldValueNotSupported", text + supported, "spec.strategy")


def service(obj: Obj) -> Iterator[Cause]:
    """Each fault of a Service."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    ports, headless = spec.get("ports") or [], spec.get("clusterIP") == "None"
    if not ports and spec.get("type") != "ExternalName" and not headless:
        yield wrong.missing("spec.ports")
    for number, port in enumerate(ports):
        path = f"spec.ports[{number}]"
        if not port.get("name") and len(ports) > 1:
            yield wrong.missing(f"{path}.name")
        if fault := wrong.port_fault(f"{path}.port", port.get("port", 0)):
            yield fault
        target = port.get("targetPort", 0)
        if isinstance(target, int) and (fault := wrong.port_fault(f"{path}.targetPort", target)):
            yield fault
    if spec.get("type") not in _TYPES:
        yield wrong.unsupported_value("spec.type", spec.get("type"), *_TYPES)
    for number, address in enumerate(spec.get("clusterIPs") or ()):
        if address != "None" and not _is_address(address):
            yield wrong.invalid_value(f"spec.clusterIPs[{number}]", address, _IP_RULE)


def _is_address(text: object) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def role(obj: Obj, _old: Obj | None) -> Iterator[Cause]:
    """Each fault of a Role or ClusterRole."""
    for number, rule in enumerate(obj.get("rules") or ()):
        path = f"rules[{number}]"
        if not rule.get("verbs"):
            yield wrong.missing(f"{path}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            continue
        if not rule.get("apiGroups"):
            yield wrong.missing(f"{path}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield wrong.missing(f"{path}.resources", "resource rules must supply at least one resource")


def binding(obj: Obj, *kinds: str) -> Iterator[Cause]:
    """Each fault of a binding that may refer to roles of these kinds."""
    reference = obj.get("roleRef") or {}
    if reference.get("kind") not in kinds:
        yield wrong.unsupported_value("roleRef.kind", reference.get("kind") or "", *kinds)
    if not reference.get("name"):
        yield wrong.missing("roleRef.name")
    for number, subject in enumerate(obj.get("subjects") or ()):
        path = f"subjects[{number}]"
        if not subject.get("name"):
            yield wrong.missing(f"{path}.name")
        if subject.get("kind") not in _SUBJECTS:
            yield wrong.unsupported_value(f"{path}.kind", subject.get("kind") or "", *_SUBJECTS)
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace") and "Role" not in kinds:
            yield wrong.missing(f"{path}.namespace")
