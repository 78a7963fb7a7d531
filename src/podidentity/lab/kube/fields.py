"""Unknown fields: pruned, and refused or warned of as the request's ``fieldValidation`` says (pure)."""

from __future__ import annotations

from podidentity.lab.kube.decoding import WrongTypeError, decode_metadata, decode_typed
from podidentity.lab.kube.errors import StatusError, invalid
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, meta
from podidentity.lab.kube.schema import conform


def check_fields(kind: Kind, obj: Obj, validation: str) -> tuple[str, ...]:
    """Prune ``obj`` in place; 400 for unknown fields under Strict, 422 when the schema refuses; warnings under Warn."""
    cannot = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
    try:
        unknown = decode_metadata(obj) if kind.custom else decode_typed(kind.kind, obj)
    except WrongTypeError as error:
        raise StatusError(400, cannot + str(error)) from error
    causes = []
    if kind.schema is not None:
        findings = conform(kind.schema, obj)
        unknown += findings.unknown
        causes = findings.causes
    found = [f'unknown field "{path}"' for path in unknown]
    if found and validation == "Strict":
        raise StatusError(400, f"{cannot}strict decoding error: {', '.join(found)}")
    if causes:
        raise invalid(kind.kind, kind.group, str(meta(obj).get("name") or ""), causes)
    return tuple(found) if validation == "Warn" else ()
