"""Images, capabilities, specs, paths: the small pure parts."""

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.lab.node import images
from podidentity.lab.node.capabilities import DEFAULT, NUMBERS, granted
from podidentity.lab.node.expand import PodFacts, UnresolvedError
from podidentity.lab.node.kits import code_of, installed
from podidentity.lab.node.objects import Capabilities, FullPod, SecurityContext
from podidentity.lab.node.podspec import (
    NodeFacts,
    Wanted,
    container_of,
    hostname_of,
    hosts_of,
)
from podidentity.lab.node.register import without_not_ready
from podidentity.lab.node.rootfs import minimal

NODE = NodeFacts("node0", "10.0.0.4", "10.0.0.2 azure.example", "/ca", ("/code",), {"PATH": "/bin"}, "/mnt")
FACTS = PodFacts("node0", "10.0.0.4", "10.244.0.2")


def pod(**spec: object) -> FullPod:
    """A pod from JSON, with one container."""
    full = {"containers": [{"name": "main", "image": "busybox"}]} | spec
    return msgspec.convert({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": full}, FullPod)


@pytest.mark.parametrize(
    ("image", "subcommand"),
    [
        ("podidentity/mic:v0.1.0", "mic"),
        ("podidentity/nmi", "nmi"),
        ("docker.io/podidentity/nmi:v1", "nmi"),
        ("podidentity/csi-provider@sha256:" + "0" * 64, "csi-provider"),
        ("mcr.microsoft.com/oss/azure/aad-pod-identity/mic:v1.8.17", "mic"),
        ("mcr.microsoft.com/oss/azure/aad-pod-identity/nmi:v1.7.3", "nmi"),
        ("mcr.microsoft.com/oss/v2/azure/secrets-store/provider-azure:v1.8.2", "csi-provider"),
        ("mcr.microsoft.com/oss/azure/secrets-store/provider-azure:0.0.11", "csi-provider"),
    ],
)
def test_our_images_and_the_originals_run_our_entry_points(image: str, subcommand: str) -> None:
    """Protects that both the shipped manifests and the original's start the product."""
    found = images.find(image)
    assert found is not None
    line = images.command_line(found, (), ("--flag",))
    assert line == (sys.executable, "-m", "podidentity", subcommand, "--flag")


def test_command_and_args_replace_what_the_image_has() -> None:
    """Protects the rules of ENTRYPOINT and CMD."""
    nginx, busybox = images.find("library/nginx:1.27"), images.find("localhost:5000/nothing")
    assert nginx is not None
    assert busybox is None
    assert images.command_line(nginx, ("sh", "-c"), ("x",)) == ("sh", "-c", "x")
    assert images.command_line(nginx, ("sh",), ()) == ("sh",)
    assert images.command_line(images.Image(), (), ()) == ()
    assert "podidentity/mic" in images.unknown("localhost:5000/nothing")


def test_a_kit_is_on_the_path_of_its_image_alone(tmp_path: Path) -> None:
    """What is installed apart is found by the image that runs it, before the machine's programs, and by no other."""
    kit = tmp_path / "podidentity/azure-cli"
    kit.mkdir(parents=True)
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    assert installed(environ) == {}
    (kit / "ok").touch()
    assert installed(environ) == {"azure-cli": str(kit)}
    node = replace(NODE, kits=installed(environ))
    image = images.find("mcr.microsoft.com/azure-cli:2.91.0")
    assert image is not None
    wanted = Wanted(pod(), pod().spec.containers[0], {}, FACTS, "")
    assert container_of(wanted, node, image, str).program.env["PATH"] == f"{kit}/bin:/bin"
    assert container_of(wanted, node, images.Image(("x",)), str).program.env["PATH"] == "/bin"


def test_a_kit_brings_its_python(tmp_path: Path) -> None:
    """A pod sees the installation that an environment's Python is a link to."""
    program = tmp_path / "python-3/bin/python3"
    program.parent.mkdir(parents=True)
    program.touch()
    (tmp_path / "kit/bin").mkdir(parents=True)
    assert code_of(str(tmp_path / "kit")) == [str(tmp_path / "kit")]
    (tmp_path / "kit/bin/python").symlink_to(program)
    assert code_of(str(tmp_path / "kit")) == [str(tmp_path / "kit"), str(tmp_path / "python-3")]


def test_capabilities() -> None:
    """Protects drop ALL, add, CAP_ prefixes and privileged; unknown names do no harm."""
    assert granted(SecurityContext()) == tuple(sorted(NUMBERS[name] for name in DEFAULT))
    asked = Capabilities(drop=("all",), add=("CAP_NET_ADMIN", "net_raw", "NOT_ONE"))
    assert granted(SecurityContext(capabilities=asked)) == (12, 13)
    assert granted(SecurityContext(capabilities=Capabilities(add=("ALL",)))) == tuple(range(41))
    assert granted(SecurityContext(privileged=True)) == tuple(range(41))
    assert NUMBERS["CHECKPOINT_RESTORE"] == 40


def test_a_new_node_takes_pods() -> None:
    """The taint that admission gives every new node goes, those a person gave stay."""
    own = {"key": "dedicated", "effect": "NoSchedule"}
    assert without_not_ready([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}, own]) == [own]


def test_host_names() -> None:
    """Protects mic's replicas from having one name, and nmi from having a pod's."""
    assert hostname_of(pod(), NODE) == "p"
    assert hostname_of(pod(hostNetwork=True), NODE) == "node0"
    assert hostname_of(pod(hostname="a" * 62 + ".b"), NODE) == "a" * 62
    text = hosts_of(pod(hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]), NODE, "10.244.0.2")
    assert text.endswith("10.0.0.2 azure.example\n10.244.0.2\tp\n1.2.3.4\ta b\n")


def test_a_container_is_put_together() -> None:
    """Protects expansion in command, args and env, the mounts, and what a read-only CSI volume means."""
    given_pod = pod(
        containers=[
            {
                "name": "main",
                "image": "busybox",
                "command": ["$(A)"],
                "args": ["$(B)"],
                "env": [{"name": "A", "value": "a"}],
                "workingDir": "/w",
                "volumeMounts": [
                    {"name": "v", "mountPath": "/v", "subPath": "x/y"},
                    {"name": "c", "mountPath": "/c"},
                ],
                "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
            }
        ],
        volumes=[{"name": "v", "emptyDir": {}}, {"name": "c", "csi": {"driver": "d", "readOnly": True}}],
    )
    image = images.find("busybox")
    assert image is not None
    wanted = Wanted(given_pod, given_pod.spec.containers[0], {}, FACTS, "/netns")
    found = container_of(wanted, NODE, image, lambda volume: f"/volumes/{volume.name}")
    assert found.program.argv == ("a", "$(B)")
    assert (found.program.cwd, found.program.no_new_privileges, found.network) == ("/w", True, "/netns")
    assert [(item.source, item.target, item.read_only) for item in found.root.mounts] == [
        ("/volumes/v/x/y", "/v", False),
        ("/volumes/c", "/c", True),
    ]
    assert found.root.read_only


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volumeMounts": [{"name": "no", "mountPath": "/v"}]}, 'volume "no" of container "main" is not declared'),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "../x"}]}, "must be relative"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "/x"}]}, "must be relative"),
    ],
)
def test_impossible_mounts_are_refused(change: dict[str, object], message: str) -> None:
    """Protects the node's other paths from a pod's subPath, and the reader from a riddle."""
    given_pod = pod(containers=[{"name": "main", "image": "busybox"} | change], volumes=[{"name": "v", "emptyDir": {}}])
    wanted = Wanted(given_pod, given_pod.spec.containers[0], {}, FACTS, "")
    with pytest.raises(UnresolvedError, match=message):
        container_of(wanted, NODE, images.Image(("x",)), lambda volume: f"/volumes/{volume.name}")


def test_an_image_without_a_command_needs_one() -> None:
    """Protects against executing nothing."""
    wanted = Wanted(pod(), pod().spec.containers[0], {}, FACTS, "")
    with pytest.raises(UnresolvedError, match="no command specified"):
        container_of(wanted, NODE, images.Image(), str)


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4).map(lambda parts: "/" + "/".join(parts))))
def test_code_paths_cover_each_other_once(paths: list[str]) -> None:
    """Protects against binding a directory twice, or not at all."""
    kept = minimal(paths)
    for path in paths:
        if path != "/":
            assert any(path == other or path.startswith(f"{other}/") for other in kept)
    for path in kept:
        assert not any(path != other and path.startswith(f"{other}/") for other in kept)
    assert minimal(["/usr/lib/x", "/usrlocal", "relative", "/"]) == ["/usrlocal"]
