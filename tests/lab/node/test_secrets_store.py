"""The driver's part: a provider in a pod, asked over its real socket, and the pure checks of what it answers."""

import json
from pathlib import Path

import pytest
from bench import Cluster, ready

from podidentity.csi.proto import provider_pb2
from podidentity.lab.node.expand import UnresolvedError
from podidentity.lab.node.secrets_store import mounted

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "/apis/secrets-store.csi.x-k8s.io"
CLASSES = f"{GROUP}/v1alpha1/namespaces/default/secretproviderclasses"


async def install(lab: Cluster) -> None:
    """The CRDs of the driver and a provider on node 0."""
    for kind in ("SecretProviderClass", "SecretProviderClassPodStatus"):
        plural = kind.lower() + "es"
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        versions = [
            {"name": name, "served": True, "storage": name == "v1", "schema": schema} for name in ("v1", "v1alpha1")
        ]
        spec = {
            "group": "secrets-store.csi.x-k8s.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": versions,
        }
        meta = {"name": f"{plural}.secrets-store.csi.x-k8s.io"}
        await lab.create(
            CRDS, apiVersion="apiextensions.k8s.io/v1", kind="CustomResourceDefinition", metadata=meta, spec=spec
        )
    script = Path(__file__).with_name("provider.py").read_text()
    folder = {
        "name": "sockets",
        "hostPath": {"path": "/var/run/secrets-store-csi-providers", "type": "DirectoryOrCreate"},
    }
    given = {
        "image": "podidentity/azure-sdk",
        "args": ["-c", script],
        "volumeMounts": [{"name": "sockets", "mountPath": "/provider"}],
    }
    await lab.run("provider", hostNetwork=True, volumes=[folder], container=given)


async def declare(lab: Cluster, name: str, **parameters: str) -> None:
    """A SecretProviderClass, in the old version as the walkthrough writes it."""
    spec = {"provider": "test", "parameters": parameters}
    kind = {"apiVersion": "secrets-store.csi.x-k8s.io/v1alpha1", "kind": "SecretProviderClass"}
    await lab.create(CLASSES, **kind, metadata={"name": name}, spec=spec)


async def mount(lab: Cluster, name: str, provider_class: str) -> None:
    """A pod with one CSI volume."""
    csi = {
        "driver": "secrets-store.csi.k8s.io",
        "readOnly": True,
        "volumeAttributes": {"secretProviderClass": provider_class},
    }
    given = {"command": ["sleep", "1000"], "volumeMounts": [{"name": "v", "mountPath": "/mnt/secrets-store"}]}
    await lab.run(name, volumes=[{"name": "v", "csi": csi}], container=given)


@pytest.mark.e2e
async def test_a_volume_is_mounted_rotated_and_shown(lab: Cluster) -> None:
    """Protects the walkthrough's last step: what the provider answers is in the pod, and follows the provider."""
    await install(lab)
    await declare(lab, "good", usePodIdentity="true", nothing="")
    await declare(lab, "refused", refuse="yes")
    await declare(lab, "escape", file="../../etc/passwd")
    await mount(lab, "early", "good")
    await lab.says("early", "FailedMount", "provider not found")
    await lab.until("early", ready)
    seen = json.loads((await lab.exec("early", "cat", "/mnt/secrets-store/seen")).stdout)
    assert seen["permission"] == "420"
    assert seen["secrets"] == {}
    context = {name.rpartition("/")[2]: value for name, value in seen["attributes"].items()}
    assert context["usePodIdentity"] == "true"
    assert (context["pod.name"], context["pod.namespace"], context["ephemeral"]) == ("early", "default", "true")
    script = "cd /mnt/secrets-store; ls; cat sub/s; stat -L -c ' %a' sub/s; touch x"
    listed = await lab.exec("early", "sh", "-c", script)
    assert listed.stdout.decode() == "seen\nsub\none 640\n"
    assert listed.code == 1
    (lab.folder / "nodes/node0/run/secrets-store-csi-providers/value").write_text("two")
    await lab.prints("early", b"two", "cat", "/mnt/secrets-store/sub/s")
    path = f"{GROUP}/v1/namespaces/default/secretproviderclasspodstatuses/early-default-good"
    status = json.loads(await lab.client.raw("GET", path))["status"]
    assert status["objects"] == [{"id": "secret/s", "version": "two"}]
    await mount(lab, "refused", "refused")
    text = await lab.says("refused", "FailedMount", "refused by the test")
    assert text == (
        'MountVolume.SetUp failed for volume "v" : rpc error: code = Unknown desc = failed to mount secrets store '
        "objects for pod default/refused, err: rpc error: code = Unknown desc = failed to mount objects, error: "
        "refused by the test"
    )
    await mount(lab, "escape", "escape")
    await lab.says("escape", "FailedMount", "file path must not contain '..'")
    await mount(lab, "absent", "absent")
    await lab.says("absent", "FailedMount", "failed to get secretproviderclass default/absent")
    for name in ("early", "refused", "escape", "absent", "provider"):
        await lab.delete(name)


def answer(**files: bytes) -> provider_pb2.MountResponse:
    """A provider's answer with these files."""
    response = provider_pb2.MountResponse()
    response.object_version.add(id="secret/s", version="1")
    for path, contents in files.items():
        response.files.add(path=path, contents=contents, mode=0o600)
    return response


def test_an_answer_is_checked_as_the_driver_does() -> None:
    """Protects the node from a provider's paths, and the pod from an answer that is none."""
    good = mounted(answer(a=b"1"))
    assert good.files == {"a": (b"1", 0o600)}
    assert good.versions == {"secret/s": "1"}
    for path in ("/etc/passwd", "../x", "a/../b", "a//b", "./a", "", "x" * 256, "a/" * 2100 + "b"):
        response = answer()
        response.files.add(path=path)
        with pytest.raises(UnresolvedError, match="invalid file path"):
            mounted(response)
    with pytest.raises(UnresolvedError, match="missing object versions"):
        mounted(provider_pb2.MountResponse())
    refused = answer()
    refused.error.code = "42"
    with pytest.raises(UnresolvedError, match="error code 42"):
        mounted(refused)
