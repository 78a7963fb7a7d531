"""``podidentity manifests``: what to give to ``kubectl apply -f -``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podidentity.cli.typed import call
from podidentity.config.errors import ConfigError
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
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
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


@app.command()
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


@app.command()
def render(
    *,
    terraform: Annotated[
        Path | None, typer.Option(help="A file with the output of `terraform output -json`; - is stdin.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of one identity, instead of --terraform.")] = "",
    resource_id: Annotated[str, typer.Option(help="Its ARM id.")] = "",
    client_id: Annotated[str, typer.Option(help="Its client id.")] = "",
    output: Annotated[Path | None, typer.Option(help="Folder for the files; without it all is printed.")] = None,
    vault: Annotated[str, typer.Option(help="Add a SecretProviderClass and a pod: the vault's name.")] = "",
    secret: Annotated[str, typer.Option(help="The secret's name.")] = "",
    secret_version: Annotated[str, typer.Option(help="Its version; without it the latest.")] = "",
    tenant_id: Annotated[str, typer.Option(help="The vault's tenant.")] = "",
) -> None:
    """Write AzureIdentity and AzureIdentityBinding of each identity, and on request what mounts a secret."""
    given = IdentityValues(name, resource_id, client_id)
    if (terraform is None) == (given == IdentityValues("", "", "")):
        raise ConfigError("give either --terraform, or --name, --resource-id and --client-id")
    found = Found((given,), (), ()) if terraform is None else _outputs(terraform)
    files: dict[str, str] = {}
    for identity in found.identities:
        files |= identity_files(identity)
    if vault or found.secrets:
        files |= _mounting(found, VaultValues(vault, "", secret, tenant_id, secret_version))
    _write(files, output)


def _outputs(path: Path) -> Found:
    text = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        return read_outputs(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _mounting(found: Found, given: VaultValues) -> Mapping[str, str]:
    """What the options leave out is taken from the outputs, when they name just one."""
    if len(found.identities) != 1:
        raise ConfigError("a pod has one identity here, and there are several; name one with --name")
    (identity,) = found.identities
    if not given.vault and len(found.secrets) == 1:
        (secret,) = found.secrets
        given = VaultValues(secret.vault, "", secret.name, given.tenant_id, secret.version)
    tenant = given.tenant_id or (found.tenants[0] if len(found.tenants) == 1 else "")
    values = VaultValues(given.vault, identity.client_id, given.secret, tenant, given.version)
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
        (folder / name).write_text(text)
        print(folder / name)


def main(argv: Sequence[str]) -> int:
    """Run it with the arguments after its name."""
    return call(app, argv, "podidentity manifests")
