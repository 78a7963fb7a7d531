"""``podidentity manifests``: what to give to ``kubectl apply -f -``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podidentity.cli.files import read_file
from podidentity.cli.typed import call, examples
from podidentity.config.errors import ConfigError
from podidentity.manifests.az_identities import read_identities
from podidentity.manifests.installation import EXCEPTIONS, FILES, Mode, Wish, exceptions, installation
from podidentity.manifests.policy import FILE as POLICIES
from podidentity.manifests.policy import policies
from podidentity.manifests.rendering import (
    IdentityValues,
    PodValues,
    VaultValues,
    identity_files,
    render_pod,
    render_secret_provider_class,
)
from podidentity.manifests.shipped import shipped
from podidentity.manifests.terraform import Found, read_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

app = typer.Typer(
    help="Manifests to install podidentity, and those of your identities.",
    no_args_is_help=True,
    epilog=examples(
        "podidentity manifests install | kubectl apply -f -",
        "podidentity manifests render --terraform outputs.json --output PodId",
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog=examples(
        "podidentity manifests install | kubectl apply -f -",
        "podidentity manifests install --mode kubenet --namespace identities --tag v0.1.0",
    )
)
def install(
    mode: Annotated[
        Mode,
        typer.Option(
            help="kubenet: for nodes with kubenet; managed: nmi alone, identities are put on "
            "the VMs by hand; noazurejson: mic's credentials from a Secret."
        ),
    ] = Mode.STANDARD,
    namespace: Annotated[str, typer.Option(help="Instead of default, or of kube-system in managed mode.")] = "",
    repository: Annotated[
        str, typer.Option(help="Where the images are, such as registry.example.org/podidentity.")
    ] = "",
    tag: Annotated[str, typer.Option(help="The images' tag.")] = "",
    *,
    secrets: Annotated[
        bool, typer.Option(help="Whether nmi may read every Secret (identities of type 1 and 2).")
    ] = True,
    with_exceptions: Annotated[
        bool,
        typer.Option(
            "--with-exceptions",
            help="Add the exceptions of the original's mic-exception.yaml; the CRDs must be served before.",
        ),
    ] = False,
) -> None:
    """Print the manifests of an installation."""
    wish = Wish(mode, namespace, repository, tag, secrets)
    text = installation(shipped(FILES[wish.mode]).read_text(), wish)
    if with_exceptions:
        text += "---\n" + exceptions(shipped(EXCEPTIONS).read_text(), wish)
    print(text, end="")


@app.command(
    epilog=examples(
        "podidentity manifests policy | kubectl apply -f -",
        "podidentity manifests policy --deny --mic identities/mic-sa",
    )
)
def policy(
    *,
    deny: Annotated[bool, typer.Option("--deny", help="Refuse; without it they warn.")] = False,
    mic: Annotated[
        list[str] | None,
        typer.Option(
            help="mic's ServiceAccount as namespace/name, instead of those of deploy/ and the chart; repeatable."
        ),
    ] = None,
) -> None:
    """Print the admission policies, for Kubernetes 1.30 and later."""
    print(policies(shipped(POLICIES).read_text(), mic or (), deny=deny), end="")


@app.command(
    epilog=examples(
        "podidentity manifests render --terraform outputs.json --output PodId",
        "podidentity manifests render --identities identities.json --name app1 --vault kv1 --secret db-password",
    )
)
def render(
    *,
    terraform: Annotated[Path | None, typer.Option(help="What `terraform output -json` prints; - for stdin.")] = None,
    identities: Annotated[
        Path | None, typer.Option(help="What `az identity list -o json` prints, or `az identity show`; - for stdin.")
    ] = None,
    name: Annotated[str, typer.Option(help="The identity's name; with a file, which of those in it.")] = "",
    resource_id: Annotated[str, typer.Option(help="Its ARM id.")] = "",
    client_id: Annotated[str, typer.Option(help="Its client id.")] = "",
    output: Annotated[Path | None, typer.Option(help="Folder for the files; without it all is printed.")] = None,
    vault: Annotated[str, typer.Option(help="Add a SecretProviderClass and a pod: the vault's name.")] = "",
    secret: Annotated[str, typer.Option(help="The secret's name.")] = "",
    secret_version: Annotated[str, typer.Option(help="Its version; without it the latest.")] = "",
    tenant_id: Annotated[str, typer.Option(help="The vault's tenant.")] = "",
    class_version: Annotated[
        str, typer.Option(help="Of the SecretProviderClass: v1alpha1, or v1 for drivers of today.")
    ] = VaultValues.api_version,
) -> None:
    """Write AzureIdentity and AzureIdentityBinding of each identity, and on request what mounts a secret."""
    found = _found(terraform, identities, IdentityValues(name, resource_id, client_id))
    files: dict[str, str] = {}
    for identity in found.identities:
        files |= identity_files(identity)
    if vault or found.secrets:
        given = VaultValues(vault, "", secret, tenant_id, secret_version, class_version)
        files |= _mounting(found, given)
    _write(files, output)


def _found(terraform: Path | None, identities: Path | None, given: IdentityValues) -> Found:
    """What the one source that was given has."""
    flags = bool(given.resource_id or given.client_id)
    if (terraform is not None) + (identities is not None) + flags != 1:
        raise ConfigError("give one of --terraform, --identities, or --name with --resource-id and --client-id")
    if terraform is not None:
        return _chosen(read_file(terraform, read_outputs), given.name)
    if identities is not None:
        return _chosen(Found(read_file(identities, read_identities), (), ()), given.name)
    return Found((given,), (), ())


def _chosen(found: Found, name: str) -> Found:
    """What there is of the one identity that is named; all without a name."""
    if not name:
        return found
    there = tuple(one for one in found.identities if one.name == name)
    if not there:
        raise ConfigError(f'no identity "{name}" in it; there are {", ".join(one.name for one in found.identities)}')
    return Found(there, found.secrets, found.tenants)


def _mounting(found: Found, given: VaultValues) -> Mapping[str, str]:
    """What the options leave out is taken from the outputs, when they name just one."""
    if len(found.identities) != 1:
        names = ", ".join(one.name for one in found.identities)
        raise ConfigError(f"a pod has one identity here, and there are several: choose with --name one of {names}")
    (identity,) = found.identities
    if not given.vault and len(found.secrets) == 1:
        (secret,) = found.secrets
        given = replace(given, vault=secret.vault, secret=secret.name, version=secret.version)
    tenant = given.tenant_id or (found.tenants[0] if len(found.tenants) == 1 else "")
    values = replace(given, client_id=identity.client_id, tenant_id=tenant)
    return {
        f"{identity.name}_SecretProviderClass.yaml": render_secret_provider_class(values),
        f"{identity.name}_Pod.yaml": render_pod(PodValues(identity.name, values.vault)),
    }


def _write(files: Mapping[str, str], folder: Path | None) -> None:
    if folder is None:
        print("\n---\n".join(text.rstrip("\n") for text in files.values()))
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, newline="\n")
        print(folder / name)


def main(argv: Sequence[str]) -> int:
    """Run it with the arguments after its name."""
    return call(app, argv, "podidentity manifests")
