"""Manifests beside the main ones: one opens the nodes again, one lets nmi be updated without a gap."""

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


def test_surge_patch_fits_the_shipped_daemonset(real_server: RealServer) -> None:
    """The real API server takes it: probes by exec alone, no declared port, and every flag of the manifest kept."""
    folder = MANIFEST.parent
    (daemonset,) = (
        item
        for item in yaml.safe_load_all((folder / "deployment-rbac.yaml").read_text())
        if item["kind"] == "DaemonSet"
    )
    daemonset["metadata"]["name"] = "nmi-surge"
    text = yaml.safe_dump(daemonset)
    assert real_server.kubectl("apply", "-f", "-", input=text).returncode == 0
    try:
        patch = ("patch", "daemonset", "nmi-surge", "--patch-file", str(folder / "nmi-surge-patch.yaml"))
        done = real_server.kubectl(*patch, "--output=yaml")
        assert done.returncode == 0, done.stderr
        spec = yaml.safe_load(done.stdout)["spec"]
        assert spec["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        (before,), (after,) = (item["spec"]["template"]["spec"]["containers"] for item in (daemonset, {"spec": spec}))
        assert set(before["args"]) < set(after["args"])
        assert nmi_settings(["--node=n", *after["args"][1:]], {}).lock_dir == "/run/podidentity"
        assert not [after[kind] for kind in ("livenessProbe", "readinessProbe") if "httpGet" in after[kind]]
        assert "ports" not in after
        assert len(after["volumeMounts"]) == len(before["volumeMounts"]) + 1
    finally:
        real_server.kubectl("delete", "daemonset", "nmi-surge", "--wait=false")
