"""What the chart renders, the components' own grammar takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from tests.charts import goldens
from tests.charts.chart import Obj

from podidentity.config.mic import MicSettings, mic_settings
from podidentity.config.nmi import NmiSettings, nmi_settings


def containers(name: str) -> Iterator[Obj]:
    """The containers of a value set, of hooks too."""
    for item in yaml.safe_load_all(goldens.golden(name).read_text()):
        if item["kind"] in {"Deployment", "DaemonSet", "Pod"}:
            pod = item if item["kind"] == "Pod" else item["spec"]["template"]
            yield from (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])


def settings(container: Obj) -> MicSettings | NmiSettings:
    """A container's arguments and environment as its component reads them. Errors: ``config.errors``."""
    environ = {entry["name"]: entry.get("value", "from-the-cluster") for entry in container.get("env", [])}
    args = [arg.replace("$(NODE_NAME)", "node-1") for arg in container["args"]]
    if container["name"] == "mic":
        return mic_settings(args, environ, "host")
    return nmi_settings(args, {**environ, "HOST_IP": "10.0.0.4"})


KEPT = ("conntrack", "max-retry")
"""Values of the original's chart that are taken over although nothing is left for them to do."""


@pytest.mark.parametrize("name", goldens.NAMES)
def test_every_argument_is_understood(name: str) -> None:
    """No value ends in a container that refuses to start, or in a flag that has no effect."""
    found = [settings(container) for container in containers(name)]
    assert found
    assert [notice for one in found for notice in one.notices if not any(word in notice for word in KEPT)] == []


def test_the_values_reach_the_settings() -> None:
    """One of each kind: a number, a time, a list, a switch, an environment variable, a flag of one's own."""
    mic = settings(next(one for one in containers("mic-flags") if one["name"] == "mic"))
    assert isinstance(mic, MicSettings)
    assert (mic.create_delete_batch, mic.sync_retry_duration, len(mic.immutable_user_msis)) == (40, 1800.0, 2)
    assert (mic.leader_election_namespace, mic.leader_election_lock) == ("locks", "leases")
    assert (mic.enable_type_upgrade, mic.verbosity, mic.custom_user_agent) == (False, 5, "fleet/7")
    nmi = settings(next(one for one in containers("nmi-flags") if one["name"] == "nmi"))
    assert isinstance(nmi, NmiSettings)
    assert (nmi.http_probe_port, nmi.find_identity_retry_interval, nmi.mic_namespace) == (8086, 3.0, "identity")
    assert (nmi.metadata_header_required, nmi.block_instance_metadata, nmi.force_namespaced) == (False, True, True)
    assert nmi.imds_rate == 5.0
    managed = settings(next(one for one in containers("managed") if one["name"] == "nmi"))
    assert isinstance(managed, NmiSettings)
    assert (managed.operation_mode, managed.force_namespaced) == ("managed", True)
