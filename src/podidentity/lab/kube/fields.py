"""Unknown fields: pruned, and refused or warned of as the request's ``fieldValidation`` says (pure)."""

from __future__ import annotations

from podidentity.lab.kube.errors import StatusError, invalid
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, meta
from podidentity.lab.kube.schema import conform


def check_fields(kind: Kind, obj: Obj, validation: str) -> tuple[str, ...]:
    """Prune ``obj`` in place; 400 for unknown fields under Strict, 422 when the schema refuses; warnings under Warn."""
    if kind.schema is None:
        return ()
    findings = conform(kind.schema, obj)
    found = [f'unknown field "{path}"' for path in findings.unknown]
    if found and validation == "Strict":
        message = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
        raise StatusError(400, f"{message}strict decoding error: {', '.join(found)}")
    if findings.causes:
        raise invalid(kind.kind, kind.group, str(meta(obj).get("name") or ""), findings.causes)
    return tuple(found) if validation == "Warn" else ()
