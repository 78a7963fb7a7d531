"""What differs between any two clusters is taken out of kubectl's answers (pure)."""

from __future__ import annotations

import re
from typing import Final

_RULES: Final = tuple(
    (re.compile(pattern, re.MULTILINE), put)
    for pattern, put in (
        (r"https://127\.0\.0\.1:\d+", "https://SERVER"),
        (r"\b127\.0\.0\.1:\d+", "SERVER"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UID"),
        (r"-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-RANDOM"),
        (r"patch: Invalid value: \"(\\.|[^\"\\])*\"", "patch: Invalid value: DUMP"),
        (r"\b10\.0\.0\.\d+", "SERVICE"),
        (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000", "TIME"),
        (r"/tmp/(LIVE|MERGED)-\d+", r"\1"),
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [-+]\d{4}", "TIME"),
        (r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT"),
        (r"X509SHA256=[0-9a-f]{64}", "X509SHA256=HASH"),
        (r"(resourceVersion\"?:|Resource Version:) *\"?\d+\"?", r"\1 RV"),
        (r", application/apply-patch\+yaml", ""),  # the embedded server has no server-side apply
        (r"^[EI]\d{4} .* reflector\.go.*\n", ""),  # whether kubectl's watch had begun when its patience ended is chance
        # A service made while the real server's repair loop looks round gets this Event, and is none the worse for it.
        (r"^Events:\n +Type .*\n +-+ .*\n( +Warning +ClusterIPNotAllocated .*(\n|\Z))+", "Events:  <none>\n"),
        (r"/tmp/kubectl-edit-\d+", "/tmp/EDIT"),
        (r"(?<![-\w./=])(\d+[smh])+(?![-\w./])", "AGE"),
        (r" {2,}(?=\S)", "  "),
        (r"[ \t]+$", ""),
    )
)


def normal(text: str) -> str:
    """``text`` without ages, times, uids, versions, addresses and the padding they make."""
    for pattern, put in _RULES:
        text = pattern.sub(put, text)
    return text.strip("\n")
