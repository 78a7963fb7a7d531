"""Settings of mic. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from podidentity.config import goflag
from podidentity.config.errors import ConfigError
from podidentity.config.flags import BOOL, CLIENT_IDS, DURATION, FLOAT, INT, PORT, TEXT, Flag
from podidentity.config.redact import redact_client_id
from podidentity.config.settings import (
    CommonSettings,
    above_zero,
    at_least,
    azure_environ,
    azure_environ_field,
    dated,
    flag,
    flag_table,
    namespaced,
    one_of,
    read_flags,
    switch,
)

_WITHOUT_EFFECT: Final = (
    Flag("enableProfile", BOOL, default=False, help=""),
    Flag("enableScaleFeatures", BOOL, default=False, help=""),
    # A PATCH that Azure refuses is narrowed down to the identity that is to blame, however many attempts that takes.
    Flag("update-user-msi-max-retry", INT, 2, "", at_least(0)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicSettings(CommonSettings):
    """Flags and environment of mic; durations are seconds.

    ``immutable_user_msis``: client ids in lower case. ``azure_environ``: what the Azure side reads (holds a secret).
    """

    kubeconfig: str = flag("kubeconfig", TEXT, "", "path of a kubeconfig; empty: in-cluster")
    cloudconfig: str = flag("cloudconfig", TEXT, "", "path of azure.json; empty: environment variables")
    force_namespaced: bool = switch("forceNamespaced", "match pods only with identities of their namespace")
    sync_retry_duration: float = flag("syncRetryDuration", DURATION, 3600.0, "period of a full pass", above_zero)
    leader_election_instance: str = flag("leader-election-instance", TEXT, "", "who contends; empty: the host name")
    leader_election_namespace: str = flag("leader-election-namespace", TEXT, "default", "where the lock is")
    leader_election_name: str = flag("leader-election-name", TEXT, "aad-pod-identity-mic", "name of the lock")
    leader_election_duration: float = flag(
        "leader-election-duration", DURATION, 15.0, "time after which a silent leader has lost", above_zero
    )
    leader_election_lock: str = flag(
        "leader-election-lock",
        TEXT,
        "endpointsleases",
        "endpointsleases (never beside an original MIC) or leases",
        one_of("endpointsleases", "leases"),
    )
    http_probe_port: int = flag("http-probe-port", PORT, 8080, "port of health and readiness")
    prometheus_port: int = flag("prometheus-port", PORT, 8888, "port of metrics")
    create_delete_batch: int = flag(
        "createDeleteBatch", INT, 20, "Kubernetes writes at the same time per VM or scale set", at_least(1)
    )
    client_qps: float = flag(
        "clientQps", FLOAT, 5.0, "at most so many Kubernetes calls a second; not given: adaptive", above_zero
    )
    immutable_user_msis: frozenset[str] = flag(
        "immutable-user-msis",
        CLIENT_IDS,
        frozenset(),
        "client ids, separated by commas, that are never removed from a host",
        show=lambda ids: " ".join(map(redact_client_id, sorted(ids))),
    )
    config_map_name: str = flag("config-map-name", TEXT, "aad-pod-identity-config", "record of the type upgrade")
    type_upgrade_status_key: str = flag("type-upgrade-status-key", TEXT, "type-upgrade-status", "its key")
    enable_type_upgrade: bool = switch("enable-type-upgrade", "rewrite old objects once", default=True)
    update_user_msi_retry_interval: float = flag(
        "update-user-msi-retry-interval",
        DURATION,
        1.0,
        "pause before a PATCH that follows a failed one",
        at_least(0.0),
    )
    identity_assignment_reconcile_interval: float = flag(
        "identity-assignment-reconcile-interval", DURATION, 180.0, "period of the comparison with Azure", above_zero
    )
    identity_removal_linger: float = flag(
        "identity-removal-linger", DURATION, 120.0, "how long an unused identity stays on its host", at_least(0.0)
    )
    compute_api_version: str = flag(
        "compute-api-version", TEXT, "2019-12-01", "api-version of VMs and scale sets, where Azure refuses it", dated
    )
    manage_startup_taint: bool = switch(
        "manage-startup-taint", "take aadpodidentity.k8s.io/agent-not-ready off a node once its nmi is Ready"
    )
    nmi_selector: str = flag("nmi-selector", TEXT, "component=nmi", "with it: the labels of nmi's pods")
    drain: bool = switch("drain", "take every identity that mic attached off, drop all records, and end")
    drain_deployment: str = flag(
        "drain-deployment", TEXT, "", "with --drain: namespace/name of the Deployment to scale to 0 first", namespaced
    )
    drain_timeout: float = flag("drain-timeout", DURATION, 600.0, "with --drain: give up after this", above_zero)
    log_format: str = flag("log-format", TEXT, "text", "text or json", one_of("text", "json"))
    pod_namespace: str = ""
    azure_environ: Mapping[str, str] = azure_environ_field()

    @property
    def qps(self) -> float:
        """Calls a second that cap each client of the Kubernetes API; 0 is none, which is so unless the flag is given.

        Two writes a pod at the original's 5 would make 200 pods wait 80 s. The API server sets the pace: its 429s are
        heeded (``kube.pace``).
        """
        return self.client_qps if "client_qps" in self.given else 0.0


FLAGS: Final = flag_table(
    MicSettings,
    "mic",
    _WITHOUT_EFFECT,
    (
        "podidentity mic --cloudconfig=/etc/kubernetes/azure.json --v=5",
        "podidentity mic --kubeconfig=admin.kubeconfig --cloudconfig=azure.json --identity-removal-linger=5m",
        "podidentity mic --drain --drain-deployment=default/mic",
    ),
)
"""All flags."""


def mic_settings(argv: Sequence[str], environ: Mapping[str, str], hostname: str) -> MicSettings:
    """Build the settings from the arguments after ``mic``. Errors: ``config.errors``."""
    given = read_flags(MicSettings, argv, goflag.parse, FLAGS)
    namespace = environ.get("MIC_POD_NAMESPACE", "")
    if not namespace:
        raise ConfigError("MIC_POD_NAMESPACE is not set; set it to mic's own namespace (fieldRef metadata.namespace)")
    return replace(
        given,
        force_namespaced=given.force_namespaced or environ.get("FORCENAMESPACED") == "true",
        leader_election_instance=given.leader_election_instance or hostname,
        pod_namespace=namespace,
        azure_environ=azure_environ(environ),
    )
