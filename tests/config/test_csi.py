"""Settings of csi-provider."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from podidentity.config.csi import CsiSettings, csi_settings
from podidentity.config.errors import ConfigError, UsageError, VersionRequested


def test_defaults_are_the_originals() -> None:
    """Without flags the provider behaves as the original's documentation says."""
    assert csi_settings([], {}) == CsiSettings(
        endpoint="unix:///tmp/azure.sock",
        healthz_port=8989,
        healthz_path="/healthz",
        healthz_timeout=5,
        prometheus_port=8898,
        construct_pem_chain=True,
        cloud_name="AzurePublicCloud",
        nmi_url="http://127.0.0.1:2579",
    )


def test_the_shipped_manifests_arguments() -> None:
    """The arguments of csi-provider.yaml are understood, without a notice."""
    argv = ["--endpoint=unix:///provider/azure.sock", "--construct-pem-chain=true", "--healthz-port=8989"]
    found = csi_settings([*argv, "--healthz-path=/healthz", "--healthz-timeout=5s"], {})
    assert (found.endpoint, found.notices, found.log_format) == ("unix:///provider/azure.sock", (), "text")


def test_every_flag_of_the_original_is_accepted() -> None:
    """No manifest that started the original is refused."""
    found = csi_settings(
        [
            *("--endpoint=TCP://127.0.0.1:1", "--log-format-json", "--metrics-backend=Prometheus", "--enable-pprof"),
            *("--pprof-port=6061", "--write-cert-and-key-in-separate-files", "--cloud-name=AzureChinaCloud"),
            *("--custom-user-agent=me", "--token-proxy-url=x", "--sni-name=y", "-v=5"),
        ],
        {"PODIDENTITY_NMI_URL": "http://[::1]:2579/"},
    )
    assert (found.log_format, found.nmi_url, found.verbosity) == ("json", "http://[::1]:2579", 5)
    assert len(found.notices) == 5


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--endpoint=/x.sock"], "invalid endpoint: /x.sock; write --endpoint=unix:///path or tcp://host:port"),
        (["--endpoint=unix://"], "invalid endpoint: unix://; write --endpoint=unix:///path or tcp://host:port"),
        (["--healthz-path=x"], '--healthz-path: "x" must start with /'),
        (["--healthz-timeout=5"], '--healthz-timeout: "5" has no unit, write for example 5s'),
        (["--metrics-backend=x"], '--metrics-backend: "x" is none of Prometheus, prometheus'),
    ],
)
def test_m42_a_wrong_command_line_is_one_line(argv: Sequence[str], words: str) -> None:
    """Each fault is refused at once, with what was found and what to write."""
    with pytest.raises(UsageError) as error:
        csi_settings(argv, {})
    assert str(error.value) == words


@pytest.mark.parametrize(
    "url",
    [
        "https://h",
        "h:1",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://[::1",
        "http://h/p",
        "http://h?q",
        "http://u@h",
    ],
)
def test_a_wrong_nmi_address_is_refused(url: str) -> None:
    """An address that could not be nmi's is an error at start, not at the first mount."""
    with pytest.raises(ConfigError, match="PODIDENTITY_NMI_URL"):
        csi_settings([], {"PODIDENTITY_NMI_URL": url})


def test_version_is_asked_for() -> None:
    """The version needs nothing else."""
    with pytest.raises(VersionRequested):
        csi_settings(["--version"], {})
