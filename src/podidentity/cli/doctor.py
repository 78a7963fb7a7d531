"""``podidentity doctor``: what is wrong, or not safe, in a whole cluster."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from podidentity import __version__
from podidentity.cli.kube_options import Context, default_kubeconfig
from podidentity.cli.typed import call, examples
from podidentity.config.errors import UsageError
from podidentity.insight.doctor import RULES, read
from podidentity.insight.findings import SEVERITIES, Finding, Report, examine, named, reaches
from podidentity.insight.look import Look
from podidentity.insight.sarif import sarif
from podidentity.kube.client import KubeClient
from podidentity.kube.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podidentity.kube.target import KubeSettings

app = typer.Typer(
    help="What is wrong, or not safe, in a cluster: every finding with its evidence and what to do. It only reads.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog=examples(
        "podidentity doctor --context prod", "podidentity doctor --fail-on error --output sarif > doctor.sarif"
    )
)
def doctor(
    *,
    kubeconfig: Annotated[str, typer.Option(envvar="KUBECONFIG", help="Else ~/.kube/config, or the pod's own.")] = "",
    context: Context = "",
    output: Annotated[str, typer.Option("--output", "-o", help="text, json or sarif.")] = "text",
    fail_on: Annotated[str, typer.Option(help="Exit 1 from this severity on: error, warning or note.")] = "warning",
) -> int:
    """Judge the cluster by every rule that the caller's rights let it see.

    Exit code 1 when something is found that is as bad as --fail-on or worse, else 0.
    """
    if output not in {"text", "json", "sarif"}:
        raise UsageError(f"--output {output}: must be text, json or sarif")
    limit = next((one for one in SEVERITIES if one == fail_on), None)
    if limit is None:
        raise UsageError(f"--fail-on {fail_on}: must be error, warning or note")
    report = asyncio.run(_report(load_settings(kubeconfig or default_kubeconfig(), os.environ, context=context)))
    if output == "text":
        print(_as_text(report))
    else:
        shown = sarif(report, RULES, __version__) if output == "sarif" else dataclasses.asdict(report)
        print(json.dumps(shown, indent=2))
    return 1 if reaches(report.worst(), limit) else 0


async def _report(settings: KubeSettings) -> Report:
    async with KubeClient(settings, user_agent=f"podidentity-doctor/{__version__}", timeout=10) as client:
        return examine(await read(Look(client), time.time()), RULES)


def _as_text(report: Report) -> str:
    lines: list[str] = []
    for severity in SEVERITIES:
        by_rule: dict[str, list[Finding]] = defaultdict(list)
        for one in report.findings:
            if one.severity == severity:
                by_rule[one.rule].append(one)
        for rule, found in by_rule.items():
            title = next(one.title for one in RULES if one.id == rule)
            lines += [f"{severity.upper()}  {rule}  {title}"]
            for one in found:
                lines += [f"  {one.subject}: {one.evidence}", f"    fix: {one.fix}"]
            lines.append("")
    lines += _unseen(report)
    numbers = {kind: sum(one.severity == kind for one in report.findings) for kind in SEVERITIES}
    counts = ", ".join(f"{number} {kind}{'' if number == 1 else 's'}" for kind, number in numbers.items())
    judged = len(RULES) - len(report.unseen)
    return "\n".join([*lines, f"{counts}; {judged} of {len(RULES)} rules judged"])


def _unseen(report: Report) -> list[str]:
    """The rules that could not be judged, by what would show them."""
    by_reason: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in report.unseen:
        by_reason[one.why, one.right].append(one.rule.partition("-")[0])
    lines = [
        f"  {named(rules, len(rules))}: {f'needs the right to {right}' if right else why}"
        for (why, right), rules in by_reason.items()
    ]
    return ["NOT VISIBLE", *lines, ""] if lines else []


def main(argv: Sequence[str]) -> int:
    """Run with the arguments after ``doctor``."""
    return call(app, argv, "podidentity doctor")
