"""The objects of a large cluster as a real API server stores them, and a way into etcd that is faster than its own."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import aiohttp
import msgspec

from events import binding, identity, node
from podidentity.api.constants import HOST_ANNOTATION, POD_LABEL
from podidentity.api.meta import KubeObject
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES, AZURE_IDENTITIES, AZURE_IDENTITY_BINDINGS, Resource
from podidentity.mic.names import plain_name
from podidentity.mic.wanted import assigned_identity, wanted
from podidentity.rules.resource_id import parse_provider_id
from scale import PODS_PER_NODE, Size

AT_ONCE: Final = 100
"""Objects in one transaction; etcd takes 128."""
WORKERS: Final = 6
STAMP: Final = "2026-01-01T00:00:00Z"
CUSTOM: Final = "/registry/aadpodidentity.k8s.io"

Stored = tuple[str, Mapping[str, Any]]
"""A key of etcd and the object there."""


def cluster(size: Size, labelled: int) -> Iterator[Stored]:
    """Everything there is when all is assigned: ``labelled`` of the pods have the label and a record."""
    for number in range(size.nodes):
        body = _body(node(number), "v1", "Node")
        body["status"] = {"nodeInfo": {"kubeletVersion": "v1.34.4", "osImage": "x" * 60}, "images": _images()}
        yield f"/registry/minions/node-{number}", body
    for number in range(size.identities):
        yield _custom(AZURE_IDENTITIES, identity(number))
        yield _custom(AZURE_IDENTITY_BINDINGS, binding(number))
    for number in range(size.pods):
        yield f"/registry/pods/default/pod-{number}", pod(size, number, labelled=number < labelled)
    for number in range(labelled):
        yield _custom(AZURE_ASSIGNED_IDENTITIES, _record(size, number))


def pod(size: Size, number: int, *, labelled: bool) -> Mapping[str, Any]:
    """A pod as a Deployment's pod is in a real cluster: about 4 kB, most of it of no use to mic."""
    labels = {"app": "web", "pod-template-hash": "5d4f8c7b9", "version": "v1"}
    if labelled:
        labels[POD_LABEL] = f"app-{size.app(number)}"
    sources = [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9", "uid": "r", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **_meta(f"pod-{number}", "default"),
            "labels": labels,
            "annotations": {"checksum/config": "0" * 64},
            "ownerReferences": [owner],
            "managedFields": [_managed()],
        },
        "spec": {
            "nodeName": f"node-{number // PODS_PER_NODE}",
            "containers": [_container()],
            "volumes": [{"name": "token", "projected": {"sources": sources, "defaultMode": 420}}],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
            "schedulerName": "default-scheduler",
        },
        "status": _status(),
    }


def _container() -> Mapping[str, Any]:
    mounts = [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}]
    return {
        "name": "web",
        "image": "registry.example.com/team/web:v1.2.3",
        "env": [{"name": f"SETTING_{index}", "value": "v" * 30} for index in range(12)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": mounts,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def _managed() -> Mapping[str, Any]:
    fields = {f'k:{{"name":"SETTING_{index}"}}': {".": {}, "f:name": {}, "f:value": {}} for index in range(12)}
    return {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "time": STAMP,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:env": fields}}}},
    }


def _status() -> Mapping[str, Any]:
    conditions = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": one, "status": "True", "lastTransitionTime": STAMP} for one in conditions],
        "containerStatuses": [
            {
                "name": "web",
                "image": "registry.example.com/team/web:v1.2.3",
                "imageID": "registry.example.com/team/web@sha256:" + "0" * 64,
                "containerID": "containerd://" + "0" * 64,
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": STAMP}},
            }
        ],
    }


def _images() -> list[Mapping[str, Any]]:
    """Names of images, which are most of a real node."""
    return [{"names": [f"registry.example.com/image-{index}@sha256:" + "0" * 64]} for index in range(20)]


def _record(size: Size, number: int) -> KubeObject:
    """The record of a pod, Assigned."""
    at, app = node(number // PODS_PER_NODE), size.app(number)
    place = parse_provider_id(at.spec.provider_id)
    assert place is not None
    whole = msgspec.structs.replace(size.pod(number).metadata, uid=_uid(f"pod-{number}"))
    want = wanted(msgspec.structs.replace(size.pod(number), metadata=whole), identity(app), binding(app), "default")
    return assigned_identity(want, plain_name(want.key), {HOST_ANNOTATION: place.host.path}, state="Assigned")


def _custom(resource: Resource[Any], obj: KubeObject) -> Stored:
    body = _body(obj, resource.api_version, resource.kind)
    return f"{CUSTOM}/{resource.plural}/{obj.namespace}/{obj.name}", body


def _body(obj: KubeObject, api_version: str, kind: str) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(obj)
    meta = {**body["metadata"], **_meta(obj.name, obj.namespace)}
    return {**body, "apiVersion": api_version, "kind": kind, "metadata": meta}


def _meta(name: str, namespace: str) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, "uid": _uid(name), "creationTimestamp": STAMP, "generation": 1, **place}


def _uid(name: str) -> str:
    return f"00000000-0000-0000-0000-{name[-12:]:0>12}"


async def load(etcd: str, objects: Iterator[Stored]) -> int:
    """Put objects into etcd (its URL) while no API server runs; how many. Raises aiohttp.ClientError."""
    count = 0
    async with aiohttp.ClientSession(trust_env=False, raise_for_status=True) as session:

        async def work() -> None:
            nonlocal count
            while some := list(islice(objects, AT_ONCE)):
                puts = [{"requestPut": {"key": _base64(key), "value": _base64(body)}} for key, body in some]
                async with session.post(f"{etcd}/v3/kv/txn", json={"success": puts}) as answer:
                    await answer.read()
                count += len(some)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(work())
    return count


def _base64(value: str | Mapping[str, Any]) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return base64.b64encode(text.encode()).decode()
