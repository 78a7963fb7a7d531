"""The fabric, nodes and pods of both network variants, with real packets in namespaces of the test's own."""

import json
import os
import sys
from pathlib import Path

import pytest

from podidentity.lab.node.namespaces import enter_world
from podidentity.lab.node.network import AddressPool, PodNetwork


@pytest.mark.datapath
def test_everyone_in_the_fabric_reaches_everyone_and_nobody_gets_out(tmp_path: Path) -> None:
    """Protects routes, source addresses (pods are never masqueraded) and the missing way out, on both variants."""
    output = tmp_path / "out.json"
    script = Path(__file__).with_name("inside_network.py")
    with enter_world(["sh", "-c", f"exec {sys.executable} {script} > {output}"], env=dict(os.environ)) as world:
        assert world.wait(60) == 0
    seen = json.loads(output.read_text())
    for caller, answers in seen["heard"].items():
        for target, heard in answers.items():
            same = {caller} if caller != target else {caller, target}
            expected = same | ({"10.244.1.1"} if caller == "10.240.0.5" and target.startswith("10.244.1.") else set())
            assert heard in expected, (caller, target, heard)
    assert all(said.endswith((" 101", " 113")) for said in seen["out"].values()), seen["out"]
    assert seen["gone"].endswith(" 113")
    assert max(seen["seconds"]) < 0.5


def test_interface_names_fit_the_kernel_and_imitate_the_plugin() -> None:
    """Protects against names above 15 characters, which the kernel refuses."""
    routed = PodNetwork("ns/" + "x" * 200, "/n", "10.244.0.2", "10.244.0.0/24", "routed")
    bridged = PodNetwork("ns/" + "x" * 200, "/n", "10.244.0.2", "10.244.0.0/24", "bridge")
    assert routed.host_interface.startswith("cali")
    assert bridged.host_interface.startswith("veth")
    assert len(routed.host_interface) == len(bridged.host_interface) == 15


def test_a_freed_address_comes_back_last() -> None:
    """Protects against a new pod getting the address of one that has just gone, while caches still know it."""
    pool = AddressPool("10.244.3.0/29")
    first = [pool.take() for _ in range(2)]
    assert first == ["10.244.3.2", "10.244.3.3"]
    pool.give_back("10.244.3.2")
    assert [pool.take() for _ in range(4)] == ["10.244.3.4", "10.244.3.5", "10.244.3.6", "10.244.3.2"]
    with pytest.raises(OSError, match="no pod address is free"):
        pool.take()
