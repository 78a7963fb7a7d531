"""Unknown fields: pruned, and refused or warned of as the request's ``fieldValidation`` says (pure)."""

from __future__ import annotations

from podidentity.lab.kube.decoding import WrongTypeError, decode_metadata, decode_typed
from podidentity.lab.kube.errors import Cause, StatusError, bad_request, invalid
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, go_value, meta
from podidentity.lab.kube.schema import conform


def check_fields(kind: Kind, obj: Obj, validation: str, *, patch: str = "") -> tuple[str, ...]:
    """Prune ``obj`` in place and give warnings; 400 for what cannot be decoded, 422 when the schema refuses.

    Unknown fields cannot be decoded under Strict and are warned of under Warn. ``patch`` shows what made ``obj``: then
    that is what is invalid (422).
    """
    unknown, causes = _decode(kind, obj, patch)
    found = [f'unknown field "{path}"' for path in unknown]
    if found and validation == "Strict":
        raise _undecodable(kind, f"strict decoding error: {', '.join(found)}", patch)
    if causes:
        raise invalid(kind.kind, kind.group, str(meta(obj).get("name") or ""), causes)
    return tuple(found) if validation == "Warn" else ()


def _decode(kind: Kind, obj: Obj, patch: str) -> tuple[list[str], list[Cause]]:
    try:
        if kind.schema is None:
            return decode_typed(kind.kind, obj), []
        unknown = [f"metadata.{path}" for path in decode_metadata(obj)]
        findings = conform(kind.schema, obj)
    except WrongTypeError as error:
        raise _undecodable(kind, str(error), patch) from error
    return unknown + findings.unknown, findings.causes


def _undecodable(kind: Kind, why: str, patch: str) -> StatusError:
    if patch:
        return invalid("", "", "", [Cause("FieldValueInvalid", f"Invalid value: {go_value(patch)}: {why}", "patch")])
    return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}')
