"""Settings of nmi. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from podidentity.config import pflag
from podidentity.config.errors import ConfigError, UsageError
from podidentity.config.flags import BOOL, FLOAT, INT, LIST, PORT, SECONDS, TEXT, Flag
from podidentity.config.settings import (
    CommonSettings,
    above_zero,
    at_least,
    azure_environ,
    azure_environ_field,
    flag,
    flag_table,
    one_of,
    read_flags,
    switch,
)

_WITHOUT_EFFECT: Final = (
    Flag("enableProfile", BOOL, default=False, help=""),
    Flag("host-ip", TEXT, "", ""),
    Flag("enable-conntrack-deletion", BOOL, default=False, help=""),  # always done
)
_MODES: Final = ("standard", "managed")
SERVICE_ACCOUNT, POD, CGROUP, SOCKET = "service-account:", "pod:", "cgroup:", "socket"
"""Kinds of entries of ``--host-token-callers``."""

_NAMES: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def _ipv4(text: str) -> str:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return "is not an IPv4 address"
    return ""


def _namespaced(name: str) -> str:
    return "" if not name or re.fullmatch(r"[a-z0-9-]+/[a-z0-9.-]+", name) else "is not NAMESPACE/NAME"


def _https(urls: tuple[str, ...]) -> str:
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
            return "must hold URLs such as https://login.example.com, separated by commas"
    return ""


def _absolute(path: str) -> str:
    return "" if path.startswith("/") or not path else "must start with /"


def _callers(entries: tuple[str, ...]) -> str:
    for entry in entries:
        kind = next((kind for kind in (SERVICE_ACCOUNT, POD, CGROUP) if entry.startswith(kind)), "")
        rest = entry.removeprefix(kind)
        fits = rest.startswith("/") if kind == CGROUP else kind and _NAMES.fullmatch(rest)
        if entry != SOCKET and not fits:
            return f"must hold service-account:NS/NAME, pod:NS/SERVICEACCOUNT, cgroup:/PATH or socket, not {entry}"
    return ""


def _sink(where: str) -> str:
    if where in ("stdout", "off") or (where.startswith("file:") and where != "file:"):
        return ""
    if where.startswith("otlp:") and not _https((where.removeprefix("otlp:").replace("http:", "https:", 1),)):
        return ""
    return "is none of stdout, off, file:PATH, otlp:http://HOST:4318"


@dataclass(frozen=True, slots=True, kw_only=True)
class NmiSettings(CommonSettings):
    """Flags and environment of nmi; durations are seconds.

    ``nmi_listen_address`` empty: not given. ``host_ip``: the node's address, from ``HOST_IP``. ``azure_environ``: what
    the Azure side reads (holds a secret).
    """

    node: str = flag("node", TEXT, "", "node whose pods are served")
    nmi_listen_address: str = flag("nmi-listen-address", TEXT, "", "address to listen on and to redirect to")
    nmi_port: int = flag("nmi-port", PORT, 2579, "port to listen on and to redirect to")
    metadata_ip: str = flag("metadata-ip", TEXT, "169.254.169.254", "address of the metadata service", _ipv4)
    metadata_port: int = flag("metadata-port", PORT, 80, "port of the metadata service")
    http_probe_port: int = flag("http-probe-port", PORT, 8080, "port of health and readiness")
    prometheus_port: int = flag("prometheus-port", PORT, 9090, "port of metrics")
    ipt_update_interval: float = flag(
        "ipt-update-interval-sec", SECONDS, 60.0, "period of the redirect's repair", at_least(1.0)
    )
    retry_attempts_for_created: int = flag(
        "retry-attempts-for-created", INT, 16, "intervals to wait for an assignment to appear", at_least(0)
    )
    retry_attempts_for_assigned: int = flag(
        "retry-attempts-for-assigned", INT, 4, "further intervals to wait for it to be done", at_least(0)
    )
    find_identity_retry_interval: float = flag(
        "find-identity-retry-interval", SECONDS, 5.0, "length of such an interval", at_least(0.0)
    )
    force_namespaced: bool = switch("forceNamespaced", "match pods only with identities of their namespace")
    mic_namespace: str = flag("MICNamespace", TEXT, "default", "namespace whose mic pods are let through")
    operation_mode: str = flag("operation-mode", TEXT, "standard", "standard or managed")
    block_instance_metadata: bool = switch("block-instance-metadata", "refuse /metadata/instance")
    metadata_header_required: bool = switch(
        "metadata-header-required", "refuse requests without Metadata: true", default=True
    )
    allowed_hosts: tuple[str, ...] = flag(
        "allowed-hosts", LIST, (), "names beside localhost that a request's Host may be (addresses always may)"
    )
    set_retry_after_header: bool = switch("set-retry-after-header", "answer 503 with Retry-After for no identity")
    enable_scale_features: bool = switch(
        "enableScaleFeatures", "watch only this node's assigned identities", default=True
    )
    allow_network_plugin_kubenet: bool = switch("allow-network-plugin-kubenet", "start on kubenet too")
    kubelet_config: str = flag("kubelet-config", TEXT, "/etc/default/kubelet", "file that names the network plugin")
    cni_results: str = flag(
        "cni-results",
        TEXT,
        "",
        "folder of the CNI's records (/var/lib/cni/results): the bridge then checks each pod's port and address",
        _absolute,
    )
    install_datapath: bool = switch("install-datapath", "install guard and redirect, and exit")
    uninstall_datapath: bool = switch("uninstall-datapath", "remove guard and redirect, and exit")
    idle: bool = switch("idle", "after --install-datapath or --uninstall-datapath stay instead of exiting")
    await_daemonset: str = flag(
        "await-daemonset", TEXT, "", "NAMESPACE/NAME: wait until it is ready on every node, and exit", _namespaced
    )
    install_boot_guard: bool = switch(
        "install-boot-guard", "write a systemd unit to the node that loads the guard before the kubelet, and exit"
    )
    uninstall_boot_guard: bool = switch("uninstall-boot-guard", "remove that unit, and exit")
    host_root: str = flag(
        "host-root", TEXT, "/", "where the node's file system is mounted, for the boot guard", _absolute
    )
    datapath: str = flag(
        "datapath",
        TEXT,
        "auto",
        "tool that keeps pods off the metadata service: nft, iptables, iptables-nft, iptables-legacy, or auto",
        one_of("auto", "nft", "iptables", "iptables-nft", "iptables-legacy"),
    )
    source_check: str = flag(
        "source-check",
        TEXT,
        "on",
        "on: drop pods' packets that come from another interface than the pod's; or off",
        one_of("on", "off"),
    )
    block_wireserver: bool = switch("block-wireserver", "keep pods off 168.63.129.16 ports 80 and 32526", default=True)
    pod_connections: int = flag(
        "pod-connections", INT, 256, "open connections of one pod to nmi, at most; 0: no limit", at_least(0)
    )
    pod_connection_rate: int = flag(
        "pod-connection-rate",
        INT,
        500,
        "new connections of one pod to nmi a second, at most, after a burst of 512; 0: no limit",
        at_least(0),
    )
    imds_rate: float = flag(
        "imds-rate",
        FLOAT,
        10.0,
        "token requests a second to the metadata service, at most (the whole VM has 20)",
        above_zero,
    )
    imds_burst: int = flag("imds-burst", INT, 10, "of these, how many at once after a pause", at_least(1))
    imds_concurrent: int = flag(
        "imds-concurrent", INT, 3, "of these, how many in flight (the whole VM has 5)", at_least(1)
    )
    cloud: str = flag(
        "cloud", TEXT, "", "cloud of service principals: AzurePublicCloud, AzureChinaCloud, ... (default $CLOUD)"
    )
    allowed_ad_endpoints: tuple[str, ...] = flag(
        "allowed-ad-endpoints", LIST, (), "https URLs beside the cloud's own that adEndpoint may name", _https
    )
    allow_cross_namespace_secrets: bool = switch(
        "allow-cross-namespace-secrets",
        "let clientPassword name a Secret of another namespace than its AzureIdentity's",
    )
    multi_tenant_array: bool = switch(
        "multi-tenant-array", "answer a JSON array for identities with auxiliaryTenantIDs, as the original did"
    )
    lock_dir: str = flag(
        "lock-dir",
        TEXT,
        "",
        "folder of the host that the nmi pods of a node share: two may then serve at once, in an update with surge",
        _absolute,
    )
    probe_socket: str = flag(
        "probe-socket", TEXT, "", "Unix socket of this container that answers probes, for podidentity.probe", _absolute
    )
    host_token_callers: tuple[str, ...] = flag(
        "host-token-callers",
        LIST,
        (),
        "who may ask /host/token on loopback: service-account:NS/NAME, pod:NS/SERVICEACCOUNT, cgroup:/PATH, or socket "
        "(nobody but the socket's); empty: everybody on the node's loopback",
        _callers,
    )
    host_token_socket: str = flag(
        "host-token-socket", TEXT, "", "Unix socket for /host/token in a folder that is root's alone", _absolute
    )
    host_token_audience: str = flag(
        "host-token-audience", TEXT, "podidentity-nmi", "audience that service-account tokens of callers must have"
    )
    cgroup_root: str = flag(
        "cgroup-root", TEXT, "/sys/fs/cgroup", "the node's cgroup2 file system, for pod: and cgroup: callers", _absolute
    )
    audit: str = flag(
        "audit", TEXT, "stdout", "where audit events go: stdout, file:PATH, otlp:http://HOST:4318, or off", _sink
    )
    log_format: str = flag("log-format", TEXT, "text", "text or json", one_of("text", "json"))
    host_ip: str = ""
    kubeconfig: str = ""
    azure_environ: Mapping[str, str] = azure_environ_field()


FLAGS: Final = flag_table(
    NmiSettings,
    "nmi",
    _WITHOUT_EFFECT,
    (
        "podidentity nmi --node=aks-nodepool1-0 --block-instance-metadata",
        "podidentity nmi --node=aks-nodepool1-0 --operation-mode=managed --forceNamespaced",
        "podidentity nmi --uninstall-datapath",
    ),
)
"""All flags."""


def nmi_settings(argv: Sequence[str], environ: Mapping[str, str]) -> NmiSettings:
    """Build the settings from the arguments after ``nmi``. Errors: ``config.errors``."""
    given = read_flags(NmiSettings, argv, pflag.parse, FLAGS)
    settings = replace(
        given,
        operation_mode=given.operation_mode.lower(),
        force_namespaced=given.force_namespaced or environ.get("FORCENAMESPACED") == "true",
        host_ip=environ.get("HOST_IP", ""),
        kubeconfig=environ.get("KUBECONFIG", ""),
        azure_environ=azure_environ(environ),
    )
    if settings.operation_mode not in _MODES:
        raise UsageError(
            f"operation mode {given.operation_mode} not supported; write --operation-mode=standard or managed"
        )
    if settings.install_datapath and settings.uninstall_datapath:
        raise UsageError("--install-datapath and --uninstall-datapath exclude each other; give one")
    if settings.install_boot_guard and settings.uninstall_boot_guard:
        raise UsageError("--install-boot-guard and --uninstall-boot-guard exclude each other; give one")
    if settings.node.startswith("$("):
        raise UsageError(f"--node: {settings.node} was not replaced; give the container that environment variable")
    if settings.idle and not (settings.install_datapath or settings.uninstall_datapath):
        raise UsageError("--idle has a meaning only beside --install-datapath or --uninstall-datapath")
    boot_guard = settings.install_boot_guard or settings.uninstall_boot_guard
    if not (settings.node or settings.uninstall_datapath or settings.await_daemonset or boot_guard):
        raise UsageError("--node is empty; give the node's name, in a manifest --node=$(NODE_NAME) with spec.nodeName")
    if settings.operation_mode == "managed" and not settings.force_namespaced:
        raise ConfigError("managed mode not intialized in force namespaced mode; add --forceNamespaced=true")
    return settings
