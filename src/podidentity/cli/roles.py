"""``podidentity roles``: the role assignments that mic needs, compared with Azure's, made where they are missing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from podidentity.azure.arm_call import ArmCaller
from podidentity.azure.authorization import AuthorizationClient
from podidentity.azure.cloud import cloud_named
from podidentity.azure.credentials import persons_credential
from podidentity.azure.errors import AzureError
from podidentity.cli.roles_source import (
    USER_AGENT,
    AksFile,
    AzureJson,
    IdentitiesFile,
    Identity,
    Kubeconfig,
    NodeGroup,
    Options,
    PrincipalId,
    Subscription,
    TerraformFile,
)
from podidentity.cli.typed import call, examples
from podidentity.config.errors import ConfigError
from podidentity.manifests import role_apply, role_output, role_principals, role_table
from podidentity.manifests.role_facts import facts
from podidentity.rules.role_check import superfluous
from podidentity.rules.role_needs import Breadth, Need, as_the_walkthrough, needed, opened
from podidentity.rules.roles import told

if TYPE_CHECKING:
    from rich.table import Table

    from podidentity.manifests.role_facts import Said
    from podidentity.rules.role_needs import Facts

T = TypeVar("T")


class Output(StrEnum):
    """How a plan is printed."""

    TABLE = "table"
    JSON = "json"
    TERRAFORM = "terraform"
    AZ = "az"


class Form(StrEnum):
    """How what was found is printed."""

    TABLE = "table"
    JSON = "json"


class Auth(StrEnum):
    """How to sign in to Azure."""

    AUTO = "auto"
    CLI = "cli"
    ENVIRONMENT = "environment"
    MANAGED_IDENTITY = "managed-identity"


_AUTO = (Auth.ENVIRONMENT, Auth.CLI, Auth.MANAGED_IDENTITY)

Scope = Annotated[
    Breadth,
    typer.Option("--scope", help="Where Managed Identity Operator is wanted; narrow is better."),
]
Walkthrough = Annotated[
    bool,
    typer.Option("--walkthrough", help="Both roles at the subscription, to the control plane's identity too."),
]
CloudOption = Annotated[str, typer.Option("--cloud", help="AzureStackCloud reads AZURE_ENVIRONMENT_FILEPATH.")]
AuthOption = Annotated[
    Auth, typer.Option("--auth", help="Sign in by AZURE_ variables, as who is signed in with az, or as this machine.")
]

app = typer.Typer(
    help="The role assignments that mic needs: worked out, compared with Azure's, made where they are missing.",
    no_args_is_help=True,
    epilog=examples(
        "podidentity roles plan --terraform outputs.json",
        "podidentity roles check --aks aks.json --identities identities.json",
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, slots=True)
class _Azure:
    """Which cloud, and how to sign in to it."""

    cloud: str
    auth: Auth

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AuthorizationClient]:
        """A client that is closed at the end. Raises ConfigError, AzureError."""
        cloud = cloud_named(self.cloud, os.environ)
        ways = _AUTO if self.auth is Auth.AUTO else (self.auth,)
        credential = persons_credential(ways, cloud, environ=os.environ)
        client = AuthorizationClient(ArmCaller(cloud, credential, user_agent=USER_AGENT, patient=True))
        try:
            yield client
        finally:
            await client.close()


@app.command(
    epilog=examples(
        "podidentity roles plan --terraform outputs.json",
        "podidentity roles plan --aks aks.json --identities identities.json -o az",
        "podidentity roles plan --azure-json /etc/kubernetes/azure.json --kubeconfig ~/.kube/config",
    )
)
def plan(  # noqa: PLR0917 - each is an option of its own
    terraform: TerraformFile = None,
    aks: AksFile = None,
    identities: IdentitiesFile = None,
    azure_json: AzureJson = None,
    kubeconfig: Kubeconfig = None,
    subscription: Subscription = "",
    node_group: NodeGroup = "",
    principal_id: PrincipalId = "",
    identity: Identity = None,
    scope: Scope = Breadth.IDENTITY,
    walkthrough: Walkthrough = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = Output.TABLE,
    cloud: CloudOption = "AzurePublicCloud",
    auth: AuthOption = Auth.AUTO,
) -> None:
    """Print what is needed; signs in only when a source has no object id."""
    options = Options(
        terraform, aks, identities, azure_json, kubeconfig, subscription, node_group, principal_id, identity
    )
    found = _run(_facts(options.said(), _Azure(cloud, auth)))
    needs = _needs(found, scope, walkthrough=walkthrough)
    notes = () if walkthrough else opened(found, scope)
    match output:
        case Output.JSON:
            print(role_output.plan_json(needs, notes), end="")
        case Output.TERRAFORM:
            print(role_output.as_terraform(needs), end="")
        case Output.AZ:
            print(role_output.as_az(needs), end="")
        case Output.TABLE:
            _show(role_table.plan_table(needs), ("Wider is possible, and opens more:", *notes) if notes else ())


@app.command(
    epilog=examples(
        "podidentity roles check --terraform outputs.json",
        "podidentity roles check --aks aks.json --identities identities.json --auth cli -o json",
    )
)
def check(  # noqa: PLR0917 - each is an option of its own
    terraform: TerraformFile = None,
    aks: AksFile = None,
    identities: IdentitiesFile = None,
    azure_json: AzureJson = None,
    kubeconfig: Kubeconfig = None,
    subscription: Subscription = "",
    node_group: NodeGroup = "",
    principal_id: PrincipalId = "",
    identity: Identity = None,
    scope: Scope = Breadth.IDENTITY,
    walkthrough: Walkthrough = False,
    output: Annotated[Form, typer.Option("--output", "-o", help="How to print it.")] = Form.TABLE,
    cloud: CloudOption = "AzurePublicCloud",
    auth: AuthOption = Auth.AUTO,
) -> int:
    """Compare what is needed with Azure; exit code 1 when anything is missing."""
    options = Options(
        terraform, aks, identities, azure_json, kubeconfig, subscription, node_group, principal_id, identity
    )
    return _run(_check(options.said(), _Azure(cloud, auth), scope, output, walkthrough=walkthrough))


@app.command(
    epilog=examples(
        "podidentity roles apply --terraform outputs.json --dry-run",
        "podidentity roles apply --terraform outputs.json --wait 600",
    )
)
def apply(  # noqa: PLR0917 - each is an option of its own
    terraform: TerraformFile = None,
    aks: AksFile = None,
    identities: IdentitiesFile = None,
    azure_json: AzureJson = None,
    kubeconfig: Kubeconfig = None,
    subscription: Subscription = "",
    node_group: NodeGroup = "",
    principal_id: PrincipalId = "",
    identity: Identity = None,
    scope: Scope = Breadth.IDENTITY,
    walkthrough: Walkthrough = False,
    cloud: CloudOption = "AzurePublicCloud",
    auth: AuthOption = Auth.AUTO,
    wait: Annotated[float, typer.Option(min=0, help="Seconds until Azure lists what was made.")] = role_apply.WAIT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")] = False,
) -> None:
    """Make what is missing and nothing else, then wait until Azure lists it. It removes nothing."""
    options = Options(
        terraform, aks, identities, azure_json, kubeconfig, subscription, node_group, principal_id, identity
    )
    _run(_apply(options.said(), _Azure(cloud, auth), scope, walkthrough=walkthrough, wait=wait, dry_run=dry_run))


def _run(work: Coroutine[object, object, T]) -> T:
    """Run to the end; what Azure refuses comes out as one line."""
    try:
        return asyncio.run(work)
    except AzureError as error:
        raise ConfigError(str(error)) from error


async def _facts(said: Said, azure: _Azure) -> Facts:
    """The facts, ARM asked only when a source has client ids alone."""
    at_hand = role_principals.at_hand(said)
    known = facts(said, at_hand)
    if at_hand:
        return known
    async with azure.client() as client:
        return facts(said, await role_principals.asked_for(said, client))


def _needs(found: Facts, scope: Breadth, *, walkthrough: bool) -> tuple[Need, ...]:
    return as_the_walkthrough(found) if walkthrough else needed(found, scope)


async def _check(said: Said, azure: _Azure, scope: Breadth, output: Form, *, walkthrough: bool) -> int:
    facts(said, role_principals.at_hand(said))  # what is wrong with the options is said before anyone signs in
    async with azure.client() as client:
        found = facts(said, await role_principals.asked_for(said, client))
        checked = await role_apply.check(_needs(found, scope, walkthrough=walkthrough), client)
    surplus = superfluous(checked.findings, checked.grants)
    if output is Form.JSON:
        print(role_output.check_json(checked.findings, surplus), end="")
    else:
        lines = [role_output.surplus_line(grant) for grant in surplus]
        missing = len(checked.missing)
        lines.append(f"{missing} missing; `podidentity roles apply` makes it" if missing else "mic has what it needs.")
        _show(role_table.check_table(checked.findings), lines)
    return 1 if checked.missing else 0


async def _apply(said: Said, azure: _Azure, scope: Breadth, *, walkthrough: bool, wait: float, dry_run: bool) -> None:
    facts(said, role_principals.at_hand(said))
    async with azure.client() as client:
        found = facts(said, await role_principals.asked_for(said, client))
        needs = _needs(found, scope, walkthrough=walkthrough)
        if dry_run:
            for need in (await role_apply.check(needs, client)).missing:
                print(f"would be made: {_line(need)}")
            return
        checked = await role_apply.apply(needs, client, made=_made, wait=wait)
    _show(
        role_table.check_table(checked.findings),
        ("Azure may take some minutes to honour a new one; mic tries again by itself.",),
    )


def _made(need: Need, new: bool) -> None:
    print(f"{'made' if new else 'was there'}: {_line(need)}", flush=True)


def _line(need: Need) -> str:
    return f"{need.role.name} for {need.principal.who} at {told(need.scope)}"


def _show(table: Table, lines: Sequence[str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False)
    console.print(table)
    if lines:
        console.print()
    for line in lines:
        console.print(line)


def main(argv: Sequence[str]) -> int:
    """Run with the arguments after ``roles``."""
    return call(app, argv, "podidentity roles")
