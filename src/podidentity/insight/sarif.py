"""A report as SARIF 2.1.0, which code-scanning services read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podidentity.insight.findings import Report, Rule

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(report: Report, rules: Sequence[Rule], version: str) -> dict[str, object]:
    """One run with all rules; objects of Kubernetes are logical locations. Rules not judged are notifications."""
    numbers = {one.id: number for number, one in enumerate(rules)}
    driver = {
        "name": "podidentity doctor",
        "semanticVersion": version,
        "rules": [
            {
                "id": one.id,
                "shortDescription": {"text": one.title},
                "defaultConfiguration": {"level": one.severity},
            }
            for one in rules
        ],
    }
    results = [
        {
            "ruleId": one.rule,
            "ruleIndex": numbers[one.rule],
            "level": one.severity,
            "message": {"text": f"{one.subject}: {one.evidence}. Fix: {one.fix}"},
            "locations": [{"logicalLocations": [{"fullyQualifiedName": one.subject, "kind": "resource"}]}],
        }
        for one in report.findings
    ]
    notifications = [
        {
            "descriptor": {"id": one.rule},
            "level": "note",
            "message": {"text": f"not visible: {f'needs the right to {one.right}' if one.right else one.why}"},
        }
        for one in report.unseen
    ]
    invocation = {"executionSuccessful": True, "toolExecutionNotifications": notifications}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "invocations": [invocation], "results": results}],
    }
