"""Settings from a kubeconfig file."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import yaml

from podidentity.config.errors import ConfigError
from podidentity.kube.auth import ExecToken, FileToken, StaticToken, TokenSource
from podidentity.kube.target import KubeSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Context(msgspec.Struct, frozen=True):
    cluster: str
    user: str | None = None
    namespace: str | None = None


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str = "http://localhost:8080"
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool = False


class _Variable(msgspec.Struct, frozen=True):
    name: str
    value: str


class _Exec(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    command: str
    env: list[_Variable] | None = None
    args: list[str] | None = None
    install_hint: str | None = None


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    exec: _Exec | None = None
    username: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(name="tokenFile", default=None)
    auth_provider: dict[str, object] | None = None
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None


T = TypeVar("T")
_NOBODY: Final = _User()
_PATHS: Final = frozenset({"certificate-authority", "client-certificate", "client-key", "tokenFile"})


def load_kubeconfig(
    path: Path, environ: Mapping[str, str], *, option: str = "--kubeconfig", context: str = ""
) -> KubeSettings:
    """Load a context (the current one by default) of the kubeconfig ``path``, with paths relative to its folder.

    ``path`` may be several files with colons between them, as kubectl takes them in ``KUBECONFIG``: the first that
    names something counts, and missing ones are left out.

    Raises ConfigError, one line that names the file and what to do.
    """
    path = path.expanduser()
    chosen, cluster, user = _choose(path, option, context)

    def absolute(name: str | None) -> str:
        return str(path.parent / name) if name else ""

    ca_data = _decoded(path, "certificate-authority-data", cluster.certificate_authority_data)
    return KubeSettings(
        server=cluster.server,
        ca_file="" if ca_data else absolute(cluster.certificate_authority),
        ca_data=ca_data,
        insecure=cluster.insecure_skip_tls_verify,
        namespace=chosen.namespace or "default",
        token_source=_token_source(path, user, environ),
        client_cert_file=absolute(user.client_certificate),
        client_key_file=absolute(user.client_key),
        client_cert_data=_decoded(path, "client-certificate-data", user.client_certificate_data),
        client_key_data=_decoded(path, "client-key-data", user.client_key_data),
    )


def _choose(path: Path, option: str, wanted: str) -> tuple[_Context, _Cluster, _User]:
    """Pick the wanted or the current context, its cluster and its user."""
    files = _files(path)
    if not files:
        raise ConfigError(f"{path}: Configuration file {path} not found; use {option} to name a kubeconfig file")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if files == [path] else _joined(files)
        contexts = _named(config["contexts"], "context", _Context)
        clusters = _named(config["clusters"], "cluster", _Cluster)
        users = _named(config.get("users") or [], "user", _User)
        name = wanted or config.get("current-context")
        if not name:
            raise ConfigError(
                f"{path}: no current-context (contexts there: {', '.join(sorted(contexts)) or 'none'}); choose one "
                f"with `kubectl --kubeconfig {path} config use-context NAME`"
            )
        if name not in contexts:
            raise ConfigError(
                f"{path}: Context '{name}' not found; use {option} to name a kubeconfig file"
                + (f", or one of its contexts: {', '.join(sorted(contexts)) or 'none'}" if wanted else "")
            )
        context = contexts[name]
        return context, clusters[context.cluster], users[context.user] if context.user else _NOBODY
    except KeyError as error:
        raise ConfigError(f"{path}: {error} is missing; use {option} to name a complete kubeconfig file") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.MsgspecError, TypeError, AttributeError, UnicodeDecodeError) as error:
        said = _wrong(error)
        raise ConfigError(f"{path} is no kubeconfig: {said}; use {option} to name a kubeconfig file") from error


def _files(path: Path) -> list[Path]:
    """The files that are there of those ``path`` names."""
    names = [str(path)] if path.is_file() else str(path).split(os.pathsep)
    return [file for name in names if name and (file := Path(name).expanduser()).is_file()]


def _joined(files: list[Path]) -> dict[str, Any]:
    """One document of several, the paths in it made independent of the files' folders."""
    found: dict[str, Any] = {}
    for file in files:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        if config is None:  # kubectl makes empty ones
            continue
        found["current-context"] = found.get("current-context") or config.get("current-context")
        for section, key in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            known = found.setdefault(section, [])
            names = {item["name"] for item in known}
            for item in config.get(section) or []:
                if item["name"] not in names:
                    known.append({"name": item["name"], key: _rooted(item[key] or {}, file.parent.absolute())})
    return found


def _rooted(item: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The item with paths that do not depend on the folder of its file."""
    rooted: dict[str, Any] = {
        name: str(folder / text) if name in _PATHS and text else text for name, text in item.items()
    }
    program = rooted.get("exec")
    if program and "/" in program["command"]:
        rooted["exec"] = {**program, "command": str(folder / program["command"])}
    return rooted


def _named(items: list[dict[str, object]], key: str, kind: type[T]) -> dict[str, T]:
    return {str(item["name"]): msgspec.convert(item[key], kind) for item in items}


def _wrong(error: Exception) -> str:
    """What is wrong with a file that could not be read, in a person's words."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, TypeError | AttributeError):  # objects were expected
        return "it must be an object with clusters, contexts and users"
    return str(error).splitlines()[0]


def _token_source(path: Path, user: _User, environ: Mapping[str, str]) -> TokenSource | None:
    """Pick the user's token: a file is preferred to a text, as kubectl does, and both to a program."""
    if user.token_file:
        return FileToken(path.parent / user.token_file)
    if user.token:
        return StaticToken(user.token)
    plugin = user.exec
    if plugin is None:
        if user.auth_provider or user.username:
            what = "auth-provider" if user.auth_provider else "username and password"
            raise ConfigError(f"{path}: user with {what}: not supported; use a token, a client certificate or exec")
        return None
    if not ExecToken.supports(plugin.api_version):
        raise ConfigError(f"{path}: exec apiVersion {plugin.api_version} is not supported; use .../v1 or .../v1beta1")
    return ExecToken(
        plugin.command,
        plugin.args or [],
        {one.name: one.value for one in plugin.env or []},
        api_version=plugin.api_version,
        environ=environ,
        folder=path.parent,
        hint=plugin.install_hint or "",
    )


def _decoded(path: Path, field: str, text: str | None) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if text else b""
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{path}: {field} is no base64: {error}") from error
