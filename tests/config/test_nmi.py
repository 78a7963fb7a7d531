"""Settings of nmi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from podidentity.config.errors import ConfigError, HelpRequested, UsageError, VersionRequested
from podidentity.config.nmi import NmiSettings, nmi_settings
from podidentity.config.settings import describe


def test_defaults_are_the_originals() -> None:
    """Without further flags nmi behaves as the original's documentation says."""
    assert nmi_settings(["--node", "n-1"], {}) == NmiSettings(
        node="n-1",
        nmi_listen_address="",
        nmi_port=2579,
        metadata_ip="169.254.169.254",
        metadata_port=80,
        http_probe_port=8080,
        prometheus_port=9090,
        ipt_update_interval=60,
        retry_attempts_for_created=16,
        retry_attempts_for_assigned=4,
        find_identity_retry_interval=5,
        mic_namespace="default",
        operation_mode="standard",
        metadata_header_required=True,
        enable_scale_features=True,
        kubelet_config="/etc/default/kubelet",
        source_check="on",
        log_format="text",
    )


def test_the_shipped_manifests_arguments() -> None:
    """Arguments and environment of deployment-rbac.yaml are understood, without a notice."""
    argv = ["--node=n", "--http-probe-port=8085", "--enableScaleFeatures=true", "--metadata-header-required=true"]
    found = nmi_settings(argv, {"HOST_IP": "10.0.0.4", "NODE_NAME": "n", "KUBECONFIG": "/k", "MSI_SECRET": "s"})
    assert (found.http_probe_port, found.host_ip, found.kubeconfig, found.notices) == (8085, "10.0.0.4", "/k", ())
    assert found.azure_environ == {"MSI_SECRET": "s"}
    assert describe(found)["azure_environ"] == "MSI_SECRET"


def test_every_flag_of_the_original_is_accepted() -> None:
    """No manifest that started the original is refused."""
    found = nmi_settings(
        [
            *("--node", "n", "--nmi-listen-address", "10.0.0.4", "--nmi-port", "1", "--metadata-ip", "1.2.3.4"),
            *("--metadata-port=2", "--http-probe-port=3", "--prometheus-port=4", "--ipt-update-interval-sec=5"),
            *("--retry-attempts-for-created=0", "--retry-attempts-for-assigned=1", "--find-identity-retry-interval=2"),
            *("--forceNamespaced", "--MICNamespace=m", "--operation-mode=Managed", "--block-instance-metadata"),
            *("--metadata-header-required=false", "--set-retry-after-header", "--enable-conntrack-deletion"),
            *(
                "--enableScaleFeatures=false",
                "--allow-network-plugin-kubenet",
                "--kubelet-config=/k",
                "--enableProfile",
            ),
            *(
                "--custom-user-agent=me",
                "--log-format=json",
                "-v",
                "5",
                "--vmodule=a=1",
                "--logtostderr",
                "--host-ip=1",
            ),
            *("--source-check=off", "--install-datapath"),
        ],
        {},
    )
    assert (found.operation_mode, found.nmi_listen_address, found.find_identity_retry_interval) == (
        "managed",
        "10.0.0.4",
        2,
    )
    assert found.notices == tuple(
        f"--{name} has no effect" for name in ("vmodule", "enableProfile", "host-ip", "enable-conntrack-deletion")
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "--node is empty; give the node's name, in a manifest --node=$(NODE_NAME) with spec.nodeName"),
        (["--node="], "--node is empty; give the node's name, in a manifest --node=$(NODE_NAME) with spec.nodeName"),
        (["--node=$(X)"], "--node: $(X) was not replaced; give the container that environment variable"),
        (["--node=n", "--metadata-ip=::1"], '--metadata-ip: "::1" is not an IPv4 address'),
        (
            ["--node=n", "--operation-mode=Xy"],
            "operation mode Xy not supported; write --operation-mode=standard or managed",
        ),
        (["--node=n", "--ipt-update-interval-sec=0"], '--ipt-update-interval-sec: "0" must be at least 1'),
        (["--node=n", "--ipt-update-interval-sec=5s"], '--ipt-update-interval-sec: "5s" is not an integer'),
        (["--node=n", "--source-check=maybe"], '--source-check: "maybe" is none of on, off'),
        (["--node=n", "--nmi-port=70000"], '--nmi-port: "70000" is not a port (1-65535)'),
        (["--nodes=n"], "unknown flag --nodes; did you mean --node?"),
        (
            ["--node=n", "--install-datapath", "--uninstall-datapath"],
            "--install-datapath and --uninstall-datapath exclude each other; give one",
        ),
        (["--node=n", "--idle"], "--idle has a meaning only beside --install-datapath or --uninstall-datapath"),
        (["--await-daemonset=name"], '--await-daemonset: "name" is not NAMESPACE/NAME'),
    ],
)
def test_m42_a_wrong_command_line_is_one_line(argv: Sequence[str], words: str) -> None:
    """Each fault is refused at once, with what was found and what to write."""
    with pytest.raises(UsageError) as error:
        nmi_settings(argv, {})
    assert str(error.value) == words


@pytest.mark.parametrize(("argv", "environ"), [(["--forceNamespaced"], {}), ([], {"FORCENAMESPACED": "true"})])
def test_managed_mode_is_namespaced_only(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """The managed mode starts only when namespaced, by flag or environment, and else with the original's words."""
    managed = ["--node=n", "--operation-mode=managed"]
    assert nmi_settings([*managed, *argv], environ).force_namespaced
    with pytest.raises(ConfigError, match="managed mode not intialized in force namespaced mode"):
        nmi_settings(managed, {})


@pytest.mark.parametrize("argv", [[], ["--node="], ["--node=$(NODE_NAME)"]])
def test_d13_without_a_node_nothing_starts(argv: Sequence[str]) -> None:
    """An agent without a node would watch the pods of the whole cluster that have none yet: it says so and ends."""
    with pytest.raises(UsageError, match="--node"):
        nmi_settings(argv, {})


def test_removing_the_datapath_needs_no_node() -> None:
    """The clean-up runs without knowing where it is."""
    assert nmi_settings(["--uninstall-datapath"], {}).uninstall_datapath
    assert nmi_settings(["--uninstall-datapath", "--idle"], {}).idle
    assert nmi_settings(["--install-datapath", "--idle", "--node=n"], {}).idle
    assert nmi_settings(["--await-daemonset=ns/name"], {}).await_daemonset == "ns/name"


def test_version_and_help_need_nothing_else() -> None:
    """Asking for version or help works without a node."""
    with pytest.raises(VersionRequested):
        nmi_settings(["--version"], {})
    with pytest.raises(HelpRequested):
        nmi_settings(["-h"], {})
