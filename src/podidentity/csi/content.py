"""What the files of one fetched object hold. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from podidentity.csi.errors import MountError

if TYPE_CHECKING:
    from podidentity.azure.keyvault import CertificateBundle, KeyBundle, SecretBundle
    from podidentity.csi.objects import WantedObject

PEM: Final = "application/x-pem-file"
PKCS12: Final = "application/x-pkcs12"


@dataclass(frozen=True, slots=True)
class CertificateOptions:
    """The provider's flags: chains ordered from leaf to root; ``.crt`` and ``.key`` beside the combined file."""

    order: bool = True
    split: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes; ``suffix`` is added to the object's own path."""

    data: bytes = field(repr=False)
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of one object, and what is worth a log line."""

    files: tuple[Content, ...]
    notice: str = ""


def secret_contents(wanted: WantedObject, bundle: SecretBundle, options: CertificateOptions) -> Contents:
    """A secret's files: its value decoded as asked, nothing trimmed or added; a certificate as PEM. Raises MountError.

    Encoding applies to the secret's own text only, never to the ``.crt`` and ``.key`` made of it.
    """
    if not bundle.kid or wanted.pfx:
        return Contents((Content(_decoded(wanted, bundle.value)),))
    if bundle.content_type == PEM:
        combined, parts, notice = _decoded(wanted, bundle.value), None, ""
        if options.split:
            from podidentity.csi.certificates import split_pem  # noqa: PLC0415 - see there

            parts = split_pem(bundle.value)
    elif bundle.content_type == PKCS12:
        from podidentity.csi.certificates import pem_of_pkcs12  # noqa: PLC0415 - see there

        parts = pem_of_pkcs12(bundle.value, order=options.order)
        combined = parts.key + parts.certificates
        notice = "" if parts.ordered else f"the chain of {wanted.name} has gaps; its certificates are left as stored"
    else:
        raise MountError(f"failed to get certificate. unknown content type '{bundle.content_type[:80]}'")
    beside = (Content(parts.certificates, ".crt"), Content(parts.key, ".key")) if parts and options.split else ()
    return Contents((*beside, Content(combined)), notice)


def key_contents(bundle: KeyBundle) -> Contents:
    """A key's public half. Raises MountError."""
    from podidentity.csi.certificates import public_key_pem  # noqa: PLC0415 - see there

    return Contents((Content(public_key_pem(bundle.jwk)),))


def certificate_contents(bundle: CertificateBundle) -> Contents:
    """A certificate, the leaf alone. Raises MountError."""
    from podidentity.csi.certificates import certificate_pem  # noqa: PLC0415 - see there

    return Contents((Content(certificate_pem(bundle.der)),))


def _decoded(wanted: WantedObject, value: str) -> bytes:
    try:
        if wanted.encoding == "base64":
            return base64.b64decode("".join(value.split()), validate=True)
        if wanted.encoding == "hex":
            return bytes.fromhex(value.strip())
        return value.encode()
    except (binascii.Error, ValueError) as error:
        raise MountError(f"the value is not {wanted.encoding or 'utf-8'}") from error
