"""``podidentity explain POD``: why a pod has no token, link by link."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from podidentity import __version__
from podidentity.api.resources import PODS
from podidentity.cli.kube_options import Context, default_kubeconfig
from podidentity.cli.typed import call, examples
from podidentity.config.errors import ConfigError, UsageError
from podidentity.insight.explain import gather
from podidentity.insight.links import Link, State, chain, healthy, next_step
from podidentity.insight.look import Hidden, Look
from podidentity.kube.client import KubeClient
from podidentity.kube.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podidentity.kube.target import KubeSettings

MARKS: Final[Mapping[State, tuple[str, str]]] = {
    "ok": ("✓", "ok"),
    "broken": ("✗", "NO"),
    "waiting": ("…", "wait"),
    "hidden": ("?", "?"),
    "skipped": ("-", "-"),
}
"""The mark of each state, and the one for a terminal that cannot show it."""

app = typer.Typer(
    help="Why has my pod no token? Follows the chain from its label to its node's agent and says what to do.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog=examples(
        "podidentity explain web-0 -n shop",
        "podidentity explain web-0 --context prod --kubeconfig ~/.kube/config -o json",
    )
)
def explain(
    pod: Annotated[str, typer.Argument(metavar="POD", help="The pod's name.", show_default=False)],
    *,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace; else the context's.")] = "",
    kubeconfig: Annotated[str, typer.Option(envvar="KUBECONFIG", help="Else ~/.kube/config, or the pod's own.")] = "",
    context: Context = "",
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> int:
    """Print each link with its evidence, then the one thing to do.

    Exit code 1 when a link does not hold, 0 when all that are visible do.
    """
    if output not in {"text", "json"}:
        raise UsageError(f"--output {output}: must be text or json")
    if not pod or "/" in pod:
        raise UsageError(f"POD {pod!r}: must be the name of a pod; its namespace goes to --namespace")
    settings = load_settings(kubeconfig or default_kubeconfig(), os.environ, context=context)
    links = asyncio.run(_links(pod, namespace, settings))
    print(_as_json(links) if output == "json" else _as_text(links))
    return 0 if healthy(links) else 1


async def _links(name: str, namespace: str, settings: KubeSettings) -> tuple[Link, ...]:
    async with KubeClient(settings, user_agent=f"podidentity-explain/{__version__}", timeout=10) as client:
        look = Look(client)
        space = namespace or settings.namespace
        pod = await look.got(PODS, name, space)
        if pod is None:
            raise ConfigError(f"there is no pod {name} in namespace {space}; name another one with --namespace")
        if isinstance(pod, Hidden):
            raise ConfigError(f"pod {space}/{name} cannot be read: {pod.why}")
        return chain(await gather(look, pod))


def _as_json(links: Sequence[Link]) -> str:
    found = {"healthy": healthy(links), "next": next_step(links), "links": [dataclasses.asdict(one) for one in links]}
    return json.dumps(found, indent=2)


def _as_text(links: Sequence[Link]) -> str:
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    width = max(len(one.name) for one in links)
    lines = [f"{MARKS[one.state][plain]:{4 if plain else 1}}  {one.name:{width}}  {one.evidence}" for one in links]
    return "\n".join([*lines, "", f"Next: {next_step(links)}"])


def main(argv: Sequence[str]) -> int:
    """Run with the arguments after ``explain``."""
    return call(app, argv, "podidentity explain")
