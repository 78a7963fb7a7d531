"""Settings from a kubeconfig file, read by lightkube's loader. Import it only where a kubeconfig is used."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import msgspec
import yaml
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError as LightkubeError

from podidentity.config.errors import ConfigError
from podidentity.kube.auth import ExecToken, FileToken, StaticToken, TokenSource
from podidentity.kube.target import KubeSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lightkube.config.models import User


def load_kubeconfig(path: Path, environ: Mapping[str, str], *, option: str = "--kubeconfig") -> KubeSettings:
    """Load the current context of the kubeconfig ``path``; its relative paths are relative to its folder.

    Raises ConfigError, one line that names the file and what to do.
    """
    chosen = _choose(path.expanduser(), option)
    cluster, user = chosen.cluster, chosen.user

    def absolute(name: str | None) -> str:
        return str(chosen.abs_file(name)) if name else ""

    ca_data = _decoded(path, "certificate-authority-data", cluster.certificate_auth_data)
    return KubeSettings(
        server=cluster.server,
        ca_file="" if ca_data else absolute(cluster.certificate_auth),
        ca_data=ca_data,
        insecure=cluster.insecure,
        namespace=chosen.namespace,
        token_source=_token_source(path, user, chosen, environ) if user else None,
        client_cert_file=absolute(user.client_cert) if user else "",
        client_key_file=absolute(user.client_key) if user else "",
        client_cert_data=_decoded(path, "client-certificate-data", user.client_cert_data) if user else b"",
        client_key_data=_decoded(path, "client-key-data", user.client_key_data) if user else b"",
    )


def _choose(path: Path, option: str) -> SingleConfig:
    """Pick the current context."""
    try:
        config = KubeConfig.from_file(path)
        if not config.current_context:
            contexts = ", ".join(sorted(config.contexts)) or "none"
            raise ConfigError(
                f"{path}: no current-context (contexts there: {contexts}); choose one with "
                f"`kubectl --kubeconfig {path} config use-context NAME`"
            )
        chosen = config.get()
    except LightkubeError as error:
        raise ConfigError(f"{path}: {error}; use {option} to name a kubeconfig file") from error
    except KeyError as error:
        raise ConfigError(f"{path}: {error} is missing; use {option} to name a complete kubeconfig file") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.MsgspecError, TypeError, AttributeError, UnicodeDecodeError) as error:
        said = _wrong(error)
        raise ConfigError(f"{path} is no kubeconfig: {said}; use {option} to name a kubeconfig file") from error
    if chosen is None:
        raise ConfigError(f"{path}: no context to use")
    return chosen


def _wrong(error: Exception) -> str:
    """What is wrong with a file that could not be read, in a person's words."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, TypeError | AttributeError):  # the loader expected objects
        return "it must be an object with clusters, contexts and users"
    return str(error).splitlines()[0]


def _token_source(path: Path, user: User, chosen: SingleConfig, environ: Mapping[str, str]) -> TokenSource | None:
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
    if not ExecToken.supports(plugin.apiVersion):
        raise ConfigError(f"{path}: exec apiVersion {plugin.apiVersion} is not supported; use .../v1 or .../v1beta1")
    return ExecToken(
        plugin.command,
        plugin.args or [],
        {one.name: one.value for one in plugin.env or []},
        api_version=plugin.apiVersion,
        environ=environ,
        folder=(chosen.fname or path).parent,
        hint=plugin.installHint or "",
    )


def _decoded(path: Path, field: str, text: str | None) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if text else b""
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{path}: {field} is no base64: {error}") from error
