"""What makes the spec of a pod, or of a pod template, invalid, in kube-apiserver's words (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from podidentity.lab.kube import wrong
from podidentity.lab.kube.errors import Cause
from podidentity.lab.kube.names import SUBDOMAIN_RULE, is_subdomain
from podidentity.lab.kube.objects import Obj

_RESTARTS: Final = ("Always", "OnFailure", "Never")
_DNS: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PULLS: Final = ("Always", "IfNotPresent", "Never")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_NEEDED: Final = {"hostPath": "path", "secret": "secretName", "configMap": "name", "csi": "driver"}
"""What the source of a volume must say."""

_ENV_RULE: Final = "a valid environment variable name must consist only of printable ASCII characters other than '='"


def faults(spec: Mapping[str, Any], path: str, restarts: tuple[str, ...] = _RESTARTS) -> Iterator[Cause]:
    """Each fault of a spec at ``path``; ``restarts`` are the restart policies it may have."""
    yield from _volumes(spec.get("volumes") or (), f"{path}.volumes")
    if not spec.get("containers"):
        yield wrong.missing(f"{path}.containers")
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    seen: set[object] = set()
    for group in ("containers", "initContainers"):
        for number, container in enumerate(spec.get(group) or ()):
            yield from _container(container, f"{path}.{group}[{number}]", volumes, seen)
    for name, supported in (("restartPolicy", restarts), ("dnsPolicy", _DNS)):
        if spec.get(name) not in supported:
            yield wrong.unsupported_value(f"{path}.{name}", spec.get(name), *supported)
    node = spec.get("nodeName")
    if node and not is_subdomain(node):
        yield wrong.invalid_value(f"{path}.nodeName", node, SUBDOMAIN_RULE)


def _volumes(volumes: Any, path: str) -> Iterator[Cause]:
    seen: set[object] = set()
    for number, volume in enumerate(volumes):
        where, name = f"{path}[{number}]", volume.get("name")
        sources = [source for source in volume if source != "name"]
        for source in sources[1:]:
            yield wrong.forbidden_value(f"{where}.{source}", "may not specify more than 1 volume type")
        if sources and (needed := _NEEDED.get(sources[0])) and not (volume[sources[0]] or {}).get(needed):
            yield wrong.missing(f"{where}.{sources[0]}.{needed}")
        if fault := wrong.name_fault(f"{where}.name", name):
            yield fault
        elif name in seen:
            yield wrong.duplicate(f"{where}.name", name)
        seen.add(name)


def _container(container: Obj, path: str, volumes: set[object], seen: set[object]) -> Iterator[Cause]:
    yield from _named(container, path, seen)
    for number, port in enumerate(container.get("ports") or ()):
        yield from _port(port, f"{path}.ports[{number}]")
    for number, variable in enumerate(container.get("env") or ()):
        yield from _variable(variable.get("name"), f"{path}.env[{number}].name")
    yield from _mounts(container.get("volumeMounts") or (), f"{path}.volumeMounts", volumes)
    if container.get("imagePullPolicy") not in _PULLS:
        yield wrong.unsupported_value(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), *_PULLS)
    yield from _resources(container.get("resources") or {}, f"{path}.resources")
    for probe in _PROBES:
        yield from _handler(container.get(probe), f"{path}.{probe}")
    for moment, handler in (container.get("lifecycle") or {}).items():
        if moment != "stopSignal":
            yield from _handler(handler, f"{path}.lifecycle.{moment}")


def _named(container: Obj, path: str, seen: set[object]) -> Iterator[Cause]:
    name, image = container.get("name"), container.get("image")
    if fault := wrong.name_fault(f"{path}.name", name):
        yield fault
    elif name in seen:
        yield wrong.duplicate(f"{path}.name", name)
    seen.add(name)
    if not image:
        yield wrong.missing(f"{path}.image")
    elif image.strip() != image:
        yield wrong.invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace")


def _port(port: Obj, path: str) -> Iterator[Cause]:
    if not port.get("containerPort"):
        yield wrong.missing(f"{path}.containerPort")
    elif fault := wrong.port_fault(f"{path}.containerPort", port["containerPort"]):
        yield fault
    if port.get("hostPort") and (fault := wrong.port_fault(f"{path}.hostPort", port["hostPort"])):
        yield fault
    if port.get("protocol") not in _PROTOCOLS:
        yield wrong.unsupported_value(f"{path}.protocol", port.get("protocol"), *_PROTOCOLS)


def _variable(name: object, path: str) -> Iterator[Cause]:
    if not name:
        yield wrong.missing(path)
    elif any(not " " <= letter <= "~" or letter == "=" for letter in str(name)):
        yield wrong.invalid_value(path, name, _ENV_RULE)


def _mounts(mounts: Any, path: str, volumes: set[object]) -> Iterator[Cause]:
    seen: set[object] = set()
    for number, mount in enumerate(mounts):
        name, place = mount.get("name"), mount.get("mountPath")
        if not name:
            yield wrong.missing(f"{path}[{number}].name")
        elif name not in volumes:
            yield Cause("FieldValueNotFound", f'Not found: "{name}"', f"{path}[{number}].name")
        if not place:
            yield wrong.missing(f"{path}[{number}].mountPath")
        elif place in seen:
            yield wrong.invalid_value(f"{path}[{number}].mountPath", place, "must be unique")
        seen.add(place)


def _resources(resources: Obj, path: str) -> Iterator[Cause]:
    limits = resources.get("limits") or {}
    for name, value in (resources.get("requests") or {}).items():
        if name in limits and wrong.quantity(value) > wrong.quantity(limits[name]):
            why = f"must be less than or equal to {name} limit of {limits[name]}"
            yield wrong.invalid_value(f"{path}.requests", str(value), why)


def _handler(handler: Obj | None, path: str) -> Iterator[Cause]:
    if handler is None:
        return
    kinds = [kind for kind in _HANDLERS if handler.get(kind) is not None]
    if not kinds:
        yield wrong.missing(path, "must specify a handler type")
    for kind in kinds[1:]:
        yield wrong.forbidden_value(f"{path}.{kind}", "may not specify more than 1 handler type")
    for kind in kinds[:1]:
        if kind in {"httpGet", "tcpSocket"}:
            port = handler[kind].get("port", 0)
            if isinstance(port, int) and (fault := wrong.port_fault(f"{path}.{kind}.port", port)):
                yield fault
        elif kind == "exec" and not handler[kind].get("command"):
            yield wrong.missing(f"{path}.exec.command")
