"""The pure parsers under whatever bytes there are."""

from __future__ import annotations

import re
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from podidentity.nmi.gate import understand
from podidentity.nmi.paths import Kind, route
from podidentity.nmi.request import Headers, normal_address, parse_query, refusal_of_headers

TOKEN = "/metadata/identity/oauth2/token"
PLAIN = re.compile(rb"/(?i:metadata)/identity/oauth2/token/?(\?[\x21-\x7e]*)?")


@given(st.binary(max_size=200))
def test_any_bytes_have_a_verdict(target: bytes) -> None:
    """No target raises; what is let through is exactly one of the plain forms."""
    found = understand(target)
    if found.route.kind is Kind.TOKEN:
        assert PLAIN.fullmatch(target)
    elif found.route.kind is Kind.REFUSED:
        assert found.refused is not None
        assert 400 <= found.refused.status < 500
    else:
        assert re.fullmatch(rb"[\x21-\x7e]+", target)


@given(
    st.sampled_from(["%2f", "%2e", "\\", "//", "/./", "/../", "#", "\x00", "\xff", "%5c", ";", "A"]), st.integers(0, 31)
)
def test_any_disturbance_of_the_token_path_is_refused(text: str, where: int) -> None:
    """Whatever is put anywhere inside the token path, it is no longer the token path, nor any other."""
    target = TOKEN[:where] + text + TOKEN[where:]
    assert route(target.encode("latin-1") + b"?resource=x").kind is Kind.REFUSED


@given(
    st.dictionaries(
        st.sampled_from(["resource", "client_id", "api-version", "x"]),
        st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=50),
    )
)
def test_query_survives_encoding(values: dict[str, str]) -> None:
    """What a client encodes is what we read, whichever names it sends."""
    query = parse_query("&".join(f"{name}={quote(value, safe='')}" for name, value in values.items()))
    assert bool(query.refusal) is ("resource" not in values)
    if not query.refusal:
        assert query.resource == values["resource"]
        assert query.named.client_id == values.get("client_id", "")


@given(st.text(max_size=300))
def test_any_query_has_a_verdict(raw: str) -> None:
    """No query raises, and a resource is never empty or with control characters."""
    query = parse_query(raw.encode("ascii", "ignore").decode())
    if not query.refusal:
        assert query.resource
        assert query.resource.isprintable()


@given(
    st.lists(st.tuples(st.sampled_from([b"Host", b"Metadata", b"Origin", b"X"]), st.binary(max_size=20)), max_size=6)
)
def test_headers_pass_only_as_they_must_be(lines: list[tuple[bytes, bytes]]) -> None:
    """Whatever headers come, only Metadata: true, one of our hosts and no Origin are in order."""
    headers = Headers()
    for name, value in lines:
        headers.add(name, value)
    if not refusal_of_headers(headers, hosts={"h"}, metadata_required=True):
        sent = [
            (name, value.strip().lower() if name == b"Host" else value.strip()) for name, value in lines if name != b"X"
        ]
        assert sorted(name for name, _ in sent) == [b"Host", b"Metadata"]
        assert dict(sent)[b"Metadata"] == b"true"
        assert dict(sent)[b"Host"].partition(b":")[0] in (b"h", b"[h]")


def test_addresses_are_normal() -> None:
    """Mapped IPv4 addresses and scope ids do not make another pod of a pod."""
    assert normal_address("::ffff:10.0.0.1") == "10.0.0.1"
    assert normal_address("fe80::1%eth0") == "fe80::1"
    assert normal_address("10.0.0.1") == "10.0.0.1"
