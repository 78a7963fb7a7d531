"""Runs in namespaces of its own (no route out): the simulated Azure under its real names, unmodified SDKs against it.

Argument: a folder with seed.json, hosts, ca.crt, cloud.crt, cloud.key, app.pem and ask.json. Prints what came back.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.policies import RequestIdPolicy
from azure.core.polling import LROPoller
from azure.core.rest import HttpRequest
from azure.identity import (
    CertificateCredential,
    ClientSecretCredential,
    CredentialUnavailableError,
    DefaultAzureCredential,
    ManagedIdentityCredential,
)
from azure.keyvault.secrets import SecretClient
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy, ARMHttpLoggingPolicy
from azure.mgmt.core.polling.arm_polling import ARMPolling

ARM = "https://management.azure.com"
SCOPE = ARM + "/.default"


def prepare(folder: Path) -> None:
    """Addresses and names of the real services, in this namespace only."""
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", "169.254.169.254/32", "dev", "lo"],
        ["mount", "--bind", str(folder / "hosts"), "/etc/hosts"],
    ):
        subprocess.run(command, check=True)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The simulated Azure on the real ports."""
    options = {
        "--state-dir": folder / "state",
        "--seed": folder / "seed.json",
        "--https": "127.0.0.1:443",
        "--imds": "169.254.169.254:80",
        "--tls-cert": folder / "cloud.crt",
        "--tls-key": folder / "cloud.key",
        "--ready-file": folder / "ready.json",
    }
    words = [str(word) for pair in options.items() for word in pair]
    process = subprocess.Popen([sys.executable, "-m", "podidentity.lab.cloud", *words])
    while not (folder / "ready.json").exists():
        if process.poll() is not None:
            raise SystemExit(f"it ended with {process.returncode}")
        time.sleep(0.02)
    return process


def read_secrets(ask: dict[str, str]) -> dict[str, Any]:
    """Secrets and errors by the Key Vault SDK with three kinds of managed-identity credentials."""
    url, name = "https://kv1.vault.azure.net", "kvs-test01"
    credentials = {
        "managed": ManagedIdentityCredential(client_id=ask["client_id"]),
        "by_id": ManagedIdentityCredential(identity_config={"resource_id": ask["identity"]}),
        "default": DefaultAzureCredential(managed_identity_client_id=ask["client_id"]),
    }
    found: dict[str, Any] = {}
    for kind, credential in credentials.items():
        with credential, SecretClient(url, credential) as client:
            found[kind] = client.get_secret(name).value
            found["versions"] = len(list(client.list_properties_of_secret_versions(name)))
            try:
                client.get_secret("none")
            except ResourceNotFoundError as error:
                found["missing"] = error.error.code if error.error else ""
    with ManagedIdentityCredential(client_id=ask["other"]) as credential:
        try:
            credential.get_token("https://vault.azure.net/.default")
        except CredentialUnavailableError as error:
            found["other"] = str(error)
    return found


def attach(ask: dict[str, str]) -> dict[str, Any]:
    """Attach an identity with the management pipeline and its poller; one more is refused."""
    with ClientSecretCredential(ask["tenant"], ask["controller"], "s3cret") as credential:
        policies = [RequestIdPolicy(), ARMChallengeAuthenticationPolicy(credential, SCOPE), ARMHttpLoggingPolicy()]
        with ARMPipelineClient(ARM, policies=policies) as client:

            def patch(identity: str) -> Any:
                users = {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}}
                url = f"{ARM}{ask['vm']}?api-version=2024-07-01"
                request = HttpRequest("PATCH", url, json={"identity": users})
                response = client.send_request(request, _return_pipeline_response=True)
                response.http_response.raise_for_status()
                return response

            def decode(response: Any) -> Any:
                return json.loads(response.http_response.text())

            done = LROPoller(client, patch(ask["identity"]), decode, ARMPolling(0.1)).result()
            try:
                patch(ask["forbidden"])
            except HttpResponseError as error:
                refused = error.error.code if error.error else ""
            return {"state": done["properties"]["provisioningState"], "refused": refused}


def main() -> None:
    """Everything in turn, as one JSON document."""
    folder = Path(sys.argv[1])
    ask = json.loads((folder / "ask.json").read_text())
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(folder / "ca.crt")
    prepare(folder)
    process = start(folder)
    try:
        answers = {"arm": attach(ask), "vault": read_secrets(ask)}
        with CertificateCredential(ask["tenant"], ask["controller"], str(folder / "app.pem")) as credential:
            answers["certificate"] = credential.get_token(SCOPE).expires_on > 0
    finally:
        process.terminate()
    answers["exit"] = process.wait()
    print(json.dumps(answers))  # noqa: T201 - the answer to the test outside


if __name__ == "__main__":
    main()
