"""The manifests of the walkthrough that are not shipped: what a user writes for their own pods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

SDK_PROGRAM = """
import hashlib, os, sys
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
try:
    client = SecretClient(os.environ["VAULT_URL"], DefaultAzureCredential())
    value = client.get_secret(os.environ["SECRET"]).value
    print("secret sha256", hashlib.sha256(value.encode()).hexdigest(), flush=True)
except AzureError as error:
    print("refused", type(error).__name__, " ".join(str(error).split())[:600], flush=True)
    sys.exit(3)
"""

CURL_PROGRAM = """
import sys, urllib.error, urllib.request
url = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
try:
    answer = urllib.request.urlopen(urllib.request.Request(url, headers={"Metadata": "true"}), timeout=110)
    print(answer.status, "token of", len(answer.read()), "bytes", flush=True)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode(), flush=True)
    sys.exit(3)
except OSError as error:
    print("no answer:", error, flush=True)
    sys.exit(4)
"""


def program_pod(name: str, program: str, env: Mapping[str, str], label: str = "") -> dict[str, object]:
    """A pod that runs a Python program with the lab's Azure SDK image."""
    metadata: dict[str, object] = {"name": name, "namespace": "default"}
    if label:
        metadata["labels"] = {"aadpodidbinding": label}
    container = {
        "name": "main",
        "image": "podidentity/azure-sdk",
        "args": ["-c", program],
        "env": [{"name": key, "value": value} for key, value in env.items()],
    }
    spec = {"restartPolicy": "Never", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def write_yaml(path: Path, *objects: Mapping[str, object]) -> Path:
    """Write objects as one YAML file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump_all([dict(item) for item in objects], sort_keys=False))
    return path
