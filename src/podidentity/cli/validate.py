"""``podidentity validate``: run in a pod, it says what the pod gets."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from podidentity.azure.imds import ImdsClient
from podidentity.azure.keyvault import KeyVaultClient
from podidentity.cli.typed import call, examples
from podidentity.config.errors import UsageError
from podidentity.insight.validate import Finding, Wish, validate

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    help="Try from inside a pod what it gets: documents, tokens, a secret.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog=examples(
        "podidentity validate",
        "podidentity validate --vault-url https://kv1.vault.azure.net --secret db-password",
    )
)
def try_all(
    *,
    client_id: Annotated[str, typer.Option(help="The identity's client id.")] = "",
    resource_id: Annotated[str, typer.Option(help="The identity's ARM id.")] = "",
    resource: Annotated[str, typer.Option(help="Whom the tokens are for.")] = Wish.resource,
    vault_url: Annotated[str, typer.Option(help="A vault to read from, such as https://kv.vault.azure.net.")] = "",
    secret: Annotated[str, typer.Option(help="The secret to read; its value is not printed.")] = "",
    tries: Annotated[int, typer.Option(min=1, help="For an identity that is not there yet.")] = Wish.tries,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between them.")] = Wish.pause,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False,
) -> int:
    """Print what was tried and what came of it; exit code 1 when anything failed."""
    if bool(vault_url) != bool(secret):
        raise UsageError("--vault-url and --secret go together; give both or neither")
    found = asyncio.run(_validated(Wish(client_id, resource_id, resource, vault_url.rstrip("/"), secret, tries, pause)))
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(_table(found))
    return 0 if all(one.holds for one in found) else 1


async def _validated(wish: Wish) -> tuple[Finding, ...]:
    metadata, vault = ImdsClient(timeout=120), KeyVaultClient()
    try:
        return await validate(wish, metadata, vault)
    finally:
        await metadata.close()
        await vault.close()


def _table(found: Sequence[Finding]) -> Table:
    table = Table("what", "", "evidence", "tries", "seconds")
    for one in found:
        table.add_row(one.what, "ok" if one.holds else "FAILED", one.evidence, str(one.tries), f"{one.seconds:.1f}")
    return table


def main(argv: Sequence[str]) -> int:
    """Run with the arguments after ``validate``."""
    return call(app, argv, "podidentity validate")
