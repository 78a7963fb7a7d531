"""Settings of mic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError, HelpRequested, UsageError, VersionRequested
from podidentity.config.mic import MicSettings, mic_settings
from podidentity.config.settings import describe

ORIGINALS = frozenset(
    re.findall(
        r"\S+",
        """
        kubeconfig cloudconfig forceNamespaced syncRetryDuration leader-election-instance leader-election-namespace
        leader-election-name leader-election-duration http-probe-port prometheus-port enableProfile enableScaleFeatures
        createDeleteBatch clientQps immutable-user-msis config-map-name type-upgrade-status-key enable-type-upgrade
        update-user-msi-max-retry update-user-msi-retry-interval identity-assignment-reconcile-interval
        custom-user-agent log-format v vmodule logtostderr alsologtostderr stderrthreshold log_dir log_file
        log_file_max_size add_dir_header skip_headers skip_log_headers one_output log_backtrace_at
        """,
    )
)
"""The flags of the original, but for ``--version``."""
ENVIRON = {"MIC_POD_NAMESPACE": "kube-system", "HOME": "/", "CLIENT_SECRET": "hunter2", "TENANT_ID": "t"}


def settings(*argv: str, environ: Mapping[str, str] = ENVIRON) -> MicSettings:
    """Build them on a machine called host-1."""
    return mic_settings(argv, environ, "host-1")


def test_defaults_are_the_originals() -> None:
    """Without flags mic behaves as the original's documentation says."""
    assert settings() == MicSettings(
        sync_retry_duration=3600,
        leader_election_instance="host-1",
        leader_election_namespace="default",
        leader_election_name="aad-pod-identity-mic",
        leader_election_duration=15,
        leader_election_lock="endpointsleases",
        http_probe_port=8080,
        prometheus_port=8888,
        create_delete_batch=20,
        client_qps=5,
        immutable_user_msis=frozenset(),
        config_map_name="aad-pod-identity-config",
        type_upgrade_status_key="type-upgrade-status",
        enable_type_upgrade=True,
        update_user_msi_retry_interval=1,
        identity_assignment_reconcile_interval=180,
        identity_removal_linger=120,
        log_format="text",
        pod_namespace="kube-system",
        azure_environ={"CLIENT_SECRET": "hunter2", "TENANT_ID": "t"},
    )


def test_only_a_limit_that_was_asked_for_holds() -> None:
    """200 pods do not wait 80 s for the default of --clientQps; whoever gives the flag, even as 5, gets its limit."""
    assert settings().qps == 0
    assert settings("--clientQps=5").qps == 5
    assert "given" not in {name for name, text in describe(settings("--clientQps=5")).items() if text}


def test_the_shipped_manifests_arguments() -> None:
    """The arguments of deployment-rbac.yaml are understood, without a notice."""
    found = settings("--cloudconfig=/etc/kubernetes/azure.json", "--logtostderr")
    assert (found.cloudconfig, found.notices) == ("/etc/kubernetes/azure.json", ())


EFFECTS: Mapping[str, tuple[str, object]] = {
    "--kubeconfig=/k": ("kubeconfig", "/k"),
    "--cloudconfig=/c": ("cloudconfig", "/c"),
    "--forceNamespaced": ("force_namespaced", True),
    "--syncRetryDuration=5m": ("sync_retry_duration", 300),
    "--leader-election-instance=i": ("leader_election_instance", "i"),
    "--leader-election-namespace=n": ("leader_election_namespace", "n"),
    "--leader-election-name=m": ("leader_election_name", "m"),
    "--leader-election-duration=30s": ("leader_election_duration", 30),
    "--http-probe-port=1": ("http_probe_port", 1),
    "--prometheus-port=2": ("prometheus_port", 2),
    "--createDeleteBatch=7": ("create_delete_batch", 7),
    "--clientQps=0.5": ("qps", 0.5),
    "--immutable-user-msis=A": ("immutable_user_msis", {"a"}),
    "--config-map-name=cm": ("config_map_name", "cm"),
    "--type-upgrade-status-key=k": ("type_upgrade_status_key", "k"),
    "--enable-type-upgrade=false": ("enable_type_upgrade", False),
    "--update-user-msi-retry-interval=3s": ("update_user_msi_retry_interval", 3),
    "--identity-assignment-reconcile-interval=1m": ("identity_assignment_reconcile_interval", 60),
    "--custom-user-agent=me": ("custom_user_agent", "me"),
    "--log-format=json": ("log_format", "json"),
    "--v=5": ("verbosity", 5),
}
"""Every flag of the original that does something: the setting that holds its value."""
NOTICES = (
    *("--enableProfile", "--enableScaleFeatures", "--update-user-msi-max-retry=1", "--vmodule=a=1"),
    *("--logtostderr=false", "--stderrthreshold=INFO", "--log_dir=/l", "--log_file=/f", "--log_file_max_size=1"),
    *("--add_dir_header", "--skip_headers", "--skip_log_headers", "--one_output", "--log_backtrace_at=x:1"),
)
"""Every flag that does nothing, and says so."""
SILENT = ("--logtostderr", "--alsologtostderr", "--alsologtostderr=false")
"""What is so anyway."""
READERS = ("mic", "cli", "telemetry", "config/mic.py")


@pytest.mark.parametrize("flag", EFFECTS)
def test_a_flag_that_is_not_noticed_has_an_effect(flag: str) -> None:
    """No flag is accepted and forgotten: its setting is read where mic is put together, and no notice is given."""
    name, value = EFFECTS[flag]
    found = settings(flag)
    assert (getattr(found, name), found.notices) == (value, ())
    source = Path(mic_settings.__code__.co_filename).parents[1]
    files = [file for part in READERS for file in (source / part, *(source / part).rglob("*.py")) if file.is_file()]
    assert any(f".{name}" in file.read_text() for file in files), f"nobody reads settings.{name}"


@pytest.mark.parametrize("flag", NOTICES)
def test_a_flag_without_effect_is_noticed(flag: str) -> None:
    """Whoever gives a flag that does nothing reads so at the start."""
    assert settings(flag).notices == (f"{flag.partition('=')[0]} has no effect",)


def test_the_flag_table_is_whole() -> None:
    """Every flag that mic takes over from the original is in the tables above, and no other is accepted silently."""
    tabled = {flag.partition("=")[0].removeprefix("--") for flag in (*EFFECTS, *NOTICES, *SILENT)}
    assert len(tabled) == len(ORIGINALS) == 36
    assert tabled == ORIGINALS
    assert settings(*SILENT).notices == ()


def test_every_flag_of_the_original_is_accepted() -> None:
    """No manifest that started the original is refused."""
    found = settings(
        *("--kubeconfig=/k", "--cloudconfig=/c", "--forceNamespaced", "--syncRetryDuration=5m", "--http-probe-port=1"),
        *("--leader-election-instance=i", "--leader-election-namespace=n", "--leader-election-name=m"),
        *("--leader-election-duration", "30s", "--prometheus-port=2", "--enableProfile", "--enableScaleFeatures"),
        *("--createDeleteBatch=7", "--clientQps=0.5", "--immutable-user-msis=A-B, c-d", "--config-map-name=cm"),
        *("--type-upgrade-status-key=k", "--enable-type-upgrade=false", "--update-user-msi-max-retry=0"),
        *("--update-user-msi-retry-interval=0", "--identity-assignment-reconcile-interval=1m", "--v=5", "-vmodule=a=1"),
        *(
            "--custom-user-agent=me",
            "--log-format=json",
            "--identity-removal-linger=0s",
            "--leader-election-lock=leases",
        ),
        *("--logtostderr=true", "--alsologtostderr", "--stderrthreshold=INFO", "--log_dir=/l", "--log_file=/f"),
        *("--log_file_max_size=1", "--add_dir_header", "--skip_headers", "--skip_log_headers", "--one_output"),
        "--log_backtrace_at=x:1",
    )
    assert found.immutable_user_msis == {"a-b", "c-d"}
    assert (found.client_qps, found.leader_election_duration, found.verbosity) == (0.5, 30, 5)
    assert (found.leader_election_instance, found.enable_type_upgrade, found.force_namespaced) == ("i", False, True)
    assert "--enableScaleFeatures has no effect" in found.notices
    assert not any("stderr has" in notice for notice in found.notices)


@pytest.mark.parametrize(("value", "wanted"), [("true", True), ("TRUE", False), ("1", False), ("", False)])
def test_force_namespaced_of_the_environment_is_exactly_true(value: str, wanted: bool) -> None:
    """The variable counts only as the word true, as in the original."""
    assert settings(environ={**ENVIRON, "FORCENAMESPACED": value}).force_namespaced is wanted


def test_a_forgotten_equals_sign_is_noticed() -> None:
    """A boolean's value as an argument of its own ends the flags, and what is lost by that is said."""
    found = settings("--enableProfile", "false", "--v=5")
    assert found.notices[-1] == 'ignored: "false" "--v=5"; the value of a boolean flag is written --name=value'


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--clientQps=0"], '--clientQps: "0" must be above 0'),
        (["--createDeleteBatch=0"], '--createDeleteBatch: "0" must be at least 1'),
        (["--syncRetryDuration=0s"], '--syncRetryDuration: "0s" must be above 0'),
        (["--leader-election-duration=-1s"], '--leader-election-duration: "-1s" must be above 0'),
        (
            ["--identity-assignment-reconcile-interval=0"],
            '--identity-assignment-reconcile-interval: "0" must be above 0',
        ),
        (["--identity-removal-linger=-1s"], '--identity-removal-linger: "-1s" must be at least 0'),
        (["--update-user-msi-max-retry=-1"], '--update-user-msi-max-retry: "-1" must be at least 0'),
        (["--log-format=xml"], '--log-format: "xml" is none of text, json'),
        (["--leader-election-lock=x"], '--leader-election-lock: "x" is none of endpointsleases, leases'),
        (["--http-probe-port=0"], '--http-probe-port: "0" is not a port (1-65535)'),
        (["--forceNamespace"], "unknown flag --forceNamespace; did you mean --forceNamespaced?"),
    ],
)
def test_m42_a_wrong_command_line_is_one_line(argv: Sequence[str], words: str) -> None:
    """Each value the original hung, panicked or failed late on is refused at once, with a reason."""
    with pytest.raises(UsageError) as error:
        settings(*argv)
    assert str(error.value) == words


def test_the_namespace_is_mandatory() -> None:
    """Without MIC_POD_NAMESPACE mic does not start, and says how to set it."""
    for environ in ({}, {"MIC_POD_NAMESPACE": ""}):
        with pytest.raises(ConfigError, match="MIC_POD_NAMESPACE is not set"):
            settings(environ=environ)


def test_m41_version_and_help_need_no_environment() -> None:
    """Asking for version or help works anywhere; a bad flag beside them is still said."""
    with pytest.raises(VersionRequested):
        settings("--version", environ={})
    with pytest.raises(HelpRequested):
        settings("--help", environ={})
    with pytest.raises(UsageError):
        settings("--version", "--nonsense", environ={})


def test_nothing_shown_gives_a_secret_away() -> None:
    """Neither repr nor the description for the log contains the client secret or a whole client id."""
    found = settings("--immutable-user-msis=aaaabbbb-cccc,x")
    shown = describe(found)
    assert shown["azure_environ"] == "CLIENT_SECRET TENANT_ID"
    assert shown["immutable_user_msis"] == "aaaa##### REDACTED #####cccc ##### REDACTED #####"
    assert shown["enable_type_upgrade"] == "true"
    assert shown["force_namespaced"] == "false"
    assert shown["sync_retry_duration"] == "3600"
    assert "hunter2" not in repr(found) + repr(shown)
    assert "bbbb" not in repr(found)
