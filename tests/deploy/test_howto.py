"""The how-to pages whose commands need an installed cluster: typed on the real API server, as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.deploy.conftest import DEPLOY, Cluster
from tests.docs.test_commands import ROOT, commands, needs_cluster, pages
from tests.real_server import kubectl_environ

PAGES = [page for page in pages() if needs_cluster(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_pages_commands_work_in_their_order(cluster: Cluster, page: Path) -> None:
    """What a page tells operators to type succeeds after a plain installation, in one shell, from top to bottom."""
    cluster.apply("deployment-rbac.yaml")
    cluster.until_served()
    server = cluster.server
    environ = kubectl_environ(server.kubeconfig, server.folder / "kubecache")
    environ["PATH"] = f"{server.programs.require('kubectl').parent}:{Path(sys.executable).parent}:{environ['PATH']}"
    script = "\n".join(["set -e", *commands(page)])
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    cluster.kubectl("delete", "namespace", "team", "--ignore-not-found", "--wait=false")
    cluster.kubectl("delete", "-f", str(DEPLOY / "policy" / "policies.yaml"), "--ignore-not-found")
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_named_secrets_are_left(cluster: Cluster) -> None:
    """After the narrowing file nmi may read the Secrets a Role names, and no other one."""
    cluster.apply("deployment-rbac.yaml")
    who = "--as=system:serviceaccount:default:aad-pod-id-nmi-service-account"
    assert cluster.kubectl("auth", "can-i", "get", "secrets", "-A", who).strip() == "yes"
    cluster.apply("nmi-secrets-restricted.yaml")
    assert cluster.kubectl("auth", "can-i", "get", "secrets/demo-aad1-sp", "-n", "default", who).strip() == "yes"
    for other in ("secrets/other", "secrets"):
        done = cluster.server.kubectl("auth", "can-i", "get", other, "-n", "default", who)
        assert (done.returncode, done.stdout.strip()) == (1, "no")
    for right in ("pods", "azureassignedidentities.aadpodidentity.k8s.io"):
        assert cluster.kubectl("auth", "can-i", "list", right, "-A", who).strip() == "yes"
