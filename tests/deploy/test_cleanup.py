"""deploy/nmi-cleanup.yaml: the way to open the nodes again."""

from __future__ import annotations

from pathlib import Path

import yaml
from tests.real_server import RealServer

from podidentity.config.nmi import nmi_settings

MANIFEST = Path(__file__).resolve().parents[2] / "deploy" / "nmi-cleanup.yaml"


def test_cleanup_is_accepted_and_is_not_nmis_own(real_server: RealServer) -> None:
    """The real API server takes it; its pods are no nmi pods, have no account's token, and Ready means done."""
    done = real_server.kubectl("apply", "--dry-run=server", "-f", str(MANIFEST))
    assert done.stdout == "daemonset.apps/nmi-cleanup created (server dry run)\n", done.stderr
    (item,) = yaml.safe_load_all(MANIFEST.read_text())
    template = item["spec"]["template"]
    assert template["metadata"]["labels"] == item["spec"]["selector"]["matchLabels"] == {"component": "nmi-cleanup"}
    assert template["spec"]["automountServiceAccountToken"] is False
    (container,) = template["spec"]["containers"]
    settings = nmi_settings(container["args"], {})
    assert (settings.uninstall_datapath, settings.idle) == (True, True)
    assert container["readinessProbe"]["httpGet"]["port"] == settings.http_probe_port == 8085
