"""Settings from a pod's files and from kubeconfigs, and the sources of tokens."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from podidentity.aio.clock import Clock
from podidentity.config.errors import ConfigError
from podidentity.kube.auth import ExecToken, FileToken
from podidentity.kube.errors import KubeUnavailable
from podidentity.kube.settings import KubeSettings, load_settings
from podidentity.kube.transport import build_context

if TYPE_CHECKING:
    from tests.kube.conftest import Certificates

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """A service account's folder."""
    (tmp_path / "token").write_text("tok\n")
    (tmp_path / "ca.crt").write_text("ca")
    (tmp_path / "namespace").write_text("kube-system")
    return tmp_path


async def test_in_cluster(account: Path) -> None:
    """A pod's environment and service account are enough; IPv6 hosts get brackets."""
    found = load_settings("", IN_CLUSTER, service_account=account)
    assert found.server == "https://10.0.0.1:443"
    assert found.ca_file == str(account / "ca.crt")
    assert found.namespace == "kube-system"
    assert found.token_source is not None
    assert await found.token_source.token() == "tok"
    six = load_settings("", IN_CLUSTER | {"KUBERNETES_SERVICE_HOST": "fd00::1"}, service_account=account)
    assert six.server == "https://[fd00::1]:443"
    (account / "namespace").unlink()
    assert load_settings("", IN_CLUSTER, service_account=account).namespace == "default"


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        ("KUBERNETES_SERVICE_HOST", "not in a cluster: KUBERNETES_SERVICE_HOST is not set"),
        ("KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT is not set"),
        ("ca.crt", "ca.crt is missing; mount the service account"),
        ("token", "token.*mount the service account"),
    ],
)
def test_not_in_cluster(account: Path, drop: str, says: str) -> None:
    """What is missing is named in one line, with the way out."""
    environ = {key: value for key, value in IN_CLUSTER.items() if key != drop}
    (account / drop).unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=says) as caught:
        load_settings("", environ, service_account=account)
    assert "\n" not in str(caught.value)


def write(folder: Path, user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, **top: Any) -> str:
    """A kubeconfig with one context."""
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "ns"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://k:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
    } | top
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return str(path)


async def test_kubeconfig_token(tmp_path: Path) -> None:
    """A token in the file, a namespace, insecure."""
    found = load_settings(write(tmp_path, {"token": "abc"}, {"insecure-skip-tls-verify": True}), {})
    assert found.token_source is not None
    assert await found.token_source.token() == "abc"
    assert "abc" not in repr(found)
    assert (found.server, found.namespace, found.insecure) == ("https://k:6443", "ns", True)
    assert build_context(found).check_hostname is False


async def test_kubeconfig_relative_paths(tmp_path: Path) -> None:
    """Relative file names are relative to the kubeconfig's folder, not to where we were started."""
    (tmp_path / "tok").write_text("from file")
    user = {"tokenFile": "tok", "client-certificate": "a/tls.crt", "client-key": "/abs/tls.key"}
    found = load_settings(write(tmp_path, user, {"certificate-authority": "ca.crt"}), {})
    assert found.token_source is not None
    assert await found.token_source.token() == "from file"
    assert found.ca_file == str(tmp_path / "ca.crt")
    assert found.client_cert_file == str(tmp_path / "a/tls.crt")
    assert found.client_key_file == "/abs/tls.key"


def test_kubeconfig_data(tmp_path: Path, certificates: Certificates) -> None:
    """Certificates as data make a usable TLS context and leave no file behind."""

    def data(name: str) -> str:
        return base64.b64encode((certificates.folder / name).read_bytes()).decode()

    user = {"client-certificate-data": data("client.crt"), "client-key-data": data("client.key")}
    found = load_settings(write(tmp_path, user, {"certificate-authority-data": data("ca.crt")}), {})
    assert build_context(found).get_ca_certs()
    assert "PRIVATE" not in repr(found)
    broken = KubeSettings(
        server="https://k", ca_data=found.ca_data, client_cert_data=found.ca_data, client_key_data=b"x"
    )
    with pytest.raises(ConfigError, match="client-certificate-data and its key"):
        build_context(broken)
    with pytest.raises(ConfigError, match="certificate-authority-data holds no usable"):
        build_context(KubeSettings(server="https://k", ca_data=b"nothing"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is no kubeconfig"),
        ("just text", "is no kubeconfig"),
        ("{a: [", "is no kubeconfig"),
        ("clusters: 3\ncontexts: []\n", "is no kubeconfig"),
        ("contexts: []\n", "'clusters' is missing"),
        ("clusters: []\ncontexts: []\n", "no current-context.*config use-context NAME"),
        ("clusters: []\ncontexts: []\ncurrent-context: gone\n", "Context 'gone' not found"),
        ("clusters: []\ncontexts: [{name: c, context: {cluster: k}}]\ncurrent-context: c\n", "'k' is missing"),
    ],
)
def test_kubeconfig_errors(tmp_path: Path, content: str, says: str) -> None:
    """Each broken kubeconfig is one line that names the file and the fix."""
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says) as caught:
        load_settings(str(path), {})
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ({"username": "a", "password": "b"}, "username and password: not supported"),
        ({"auth-provider": {"name": "azure"}}, "auth-provider: not supported"),
        ({"client-certificate-data": "***"}, "client-certificate-data is no base64"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v9", "command": "x"}}, "v9 is not supported"),
    ],
)
def test_kubeconfig_users_we_cannot_be(tmp_path: Path, user: dict[str, Any], says: str) -> None:
    """Credentials of kinds we do not speak are refused by name, not ignored."""
    with pytest.raises(ConfigError, match=says):
        load_settings(write(tmp_path, user), {})


def test_kubeconfig_unreadable(tmp_path: Path) -> None:
    """A missing file and a folder are named."""
    with pytest.raises(ConfigError, match="not found"):
        load_settings(str(tmp_path / "none"), {})
    with pytest.raises(ConfigError, match="not found"):
        load_settings(str(tmp_path), {})


PLUGIN = """
import json, os, sys, pathlib
count = pathlib.Path(sys.argv[1]); n = int(count.read_text() or 0) + 1; count.write_text(str(n))
assert json.loads(os.environ["KUBERNETES_EXEC_INFO"])["spec"]["interactive"] is False
status = {"token": os.environ["PREFIX"] + str(n), "expirationTimestamp": sys.argv[2]}
print(json.dumps({"kind": "ExecCredential", "status": status}))
"""


async def test_exec_plugin(tmp_path: Path) -> None:
    """The program is run once while its token lives, with its environment, again after expiry and after a 401."""
    program, count = tmp_path / "plugin.py", tmp_path / "count"
    program.write_text(PLUGIN)
    count.write_text("")
    now = [0.0]
    source = ExecToken(
        sys.executable,
        [str(program), str(count), "1970-01-01T01:00:00Z"],
        {"PREFIX": "t"},
        api_version="client.authentication.k8s.io/v1",
        environ={},
        folder=tmp_path,
        clock=Clock(wall=lambda: now[0]),
    )
    assert await asyncio.gather(*(source.token() for _ in range(5))) == ["t1"] * 5
    assert await asyncio.gather(*(source.token(refresh=True) for _ in range(5))) == ["t2"] * 5
    now[0] = 3595
    assert await source.token() == "t3"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import sys; sys.exit('no login\\nrun az login')", "failed with 1: no login"),
        ("print('hello')", "printed no ExecCredential"),
        ("print('{\"status\":{}}')", "gave no token"),
        ('print(\'{"status":{"token":"t","expirationTimestamp":"soon"}}\')', "printed no ExecCredential"),
    ],
)
async def test_exec_plugin_failures(tmp_path: Path, script: str, says: str) -> None:
    """A program that fails is named with what it said."""
    source = exec_token(tmp_path, sys.executable, ["-c", script])
    with pytest.raises(KubeUnavailable, match=says):
        await source.token()


def exec_token(folder: Path, command: str, args: list[str]) -> ExecToken:
    """A program as token source."""
    version = "client.authentication.k8s.io/v1"
    return ExecToken(command, args, {}, api_version=version, environ={}, folder=folder, hint="install it")


async def test_exec_plugin_missing_or_relative(tmp_path: Path) -> None:
    """A missing program gives the kubeconfig's hint; a relative one is found next to the kubeconfig."""
    with pytest.raises(KubeUnavailable, match=r"cannot run the credential program nope-login.*install it"):
        await exec_token(tmp_path, "nope-login", []).token()
    script = tmp_path / "login"
    script.write_text('#!/bin/sh\necho \'{"status":{"token":"rel"}}\'\n')
    script.chmod(0o755)
    assert await exec_token(tmp_path, "./login", []).token() == "rel"


async def test_exec_plugin_in_a_kubeconfig(tmp_path: Path) -> None:
    """The kubeconfig's exec section is taken over whole: command, arguments, environment."""
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": sys.executable,
        "args": ["-c", "import os; print('{\"status\":{\"token\":\"' + os.environ['A'] + os.environ['B'] + '\"}}')"],
        "env": [{"name": "A", "value": "x"}],
    }
    found = load_settings(write(tmp_path, {"exec": plugin}), {"B": "y"})
    assert found.token_source is not None
    assert await found.token_source.token() == "xy"


async def test_token_file(tmp_path: Path) -> None:
    """A token file that is missing at first is an error; an atomic replacement is seen; an empty one keeps the old."""
    path = tmp_path / "token"
    source = FileToken(path)
    with pytest.raises(KubeUnavailable, match="cannot read the token file"):
        await source.token()
    path.write_text("one")
    assert await source.token() == "one"
    (tmp_path / "next").write_text("two")
    (tmp_path / "next").rename(path)
    assert await source.token() == "two"
    path.write_text("")
    assert await source.token() == "two"
    path.write_bytes(b"\xff\xfe")
    assert await source.token() == "two"
