"""The ``objects`` parameter: YAML in, the wanted files out, every mistake at once. No I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import yaml

from podidentity.csi.errors import MountError

MAX_TEXT: Final = 128 * 1024
"""Characters of the parameter; YAML of this size is read in well under a second."""
MAX_OBJECTS: Final = 500
MAX_ENTRIES_TEXT: Final = 2 * MAX_TEXT
"""Characters of all entries together: a YAML alias repeats a text at the cost of two characters."""
MAX_HISTORY: Final = 100
"""Versions of one object: they share the 4 MiB of a volume."""
MAX_SHOWN: Final = 10
FIELDS: Final = (
    "objectName",
    "objectAlias",
    "objectType",
    "objectVersion",
    "objectVersionHistory",
    "objectFormat",
    "objectEncoding",
    "filePermission",
)
_OBJECT_NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
_VERSION: Final = re.compile(r"[0-9a-zA-Z]{1,64}")
_OCTAL: Final = re.compile(r"(0o?)?[0-7]{1,4}")
_HISTORY: Final = re.compile(r"-?[0-9]{1,9}")
_MAX_COMPONENT: Final = 255
_MAX_PATH: Final = 4096

ObjectKind = Literal["secret", "key", "cert"]
KINDS: Final[Mapping[str, ObjectKind]] = {"secret": "secret", "key": "key", "cert": "cert"}
Encoding = Literal["", "utf-8", "hex", "base64"]


@dataclass(frozen=True, slots=True)
class WantedObject:
    """One object and the file it becomes. ``version`` is empty for the latest, ``mode`` None for the mount's.

    ``history`` above 1: that many versions, newest first, each a file in the folder ``path``.
    """

    name: str
    version: str
    path: str
    kind: ObjectKind = "secret"
    pfx: bool = False
    encoding: Encoding = ""
    mode: int | None = None
    history: int = 1

    @property
    def title(self) -> str:
        """The object as messages name it."""
        return f"objectType:{self.kind}, objectName:{self.name}, objectVersion:{self.version}"

    @property
    def paths(self) -> tuple[str, ...]:
        """The files it becomes, those that some certificates bring beside them apart."""
        return tuple(f"{self.path}/{index}" for index in range(self.history)) if self.history > 1 else (self.path,)


def parse_objects(text: str) -> tuple[WantedObject, ...]:
    """Read the parameter: a YAML ``array`` of YAML texts, scalars as written.

    Raises MountError that lists every mistake with its index, object and field.
    """
    if len(text) > MAX_TEXT:
        raise MountError(f"failed to yaml unmarshal objects, error: longer than {MAX_TEXT} characters")
    entries = _entries(text)
    files: list[WantedObject] = []
    mistakes: list[str] = []
    for index, entry in enumerate(entries):
        found, wrong = _entry(index, entry)
        mistakes += wrong
        if found is not None:
            files.append(found)
    twice = [path for path, count in Counter(path for file in files for path in file.paths).items() if count > 1]
    mistakes += [f'objects: more than one object would be written to file "{path}"' for path in twice]
    mistakes += _nested(files)
    if (total := sum(file.history for file in files)) > MAX_OBJECTS:
        mistakes.append(f"objects: {total} files with all versions, at most {MAX_OBJECTS}")
    if mistakes:
        more = f"; and {len(mistakes) - MAX_SHOWN} more" if len(mistakes) > MAX_SHOWN else ""
        raise MountError("; ".join(mistakes[:MAX_SHOWN]) + more)
    return tuple(files)


def _entries(text: str) -> list[object]:
    parsed = _yaml(text, "failed to yaml unmarshal objects, error: ")
    array = parsed.get("array") if isinstance(parsed, dict) else None
    if not isinstance(array, list):
        raise MountError('failed to yaml unmarshal objects, error: must be "array:" followed by a list')
    if not array:
        raise MountError("objects: the array is empty; name at least one object")
    if len(array) > MAX_OBJECTS:
        raise MountError(f"objects: {len(array)} objects, at most {MAX_OBJECTS}")
    if sum(len(entry) for entry in array if isinstance(entry, str)) > MAX_ENTRIES_TEXT:
        raise MountError(f"objects: the entries are longer than {MAX_ENTRIES_TEXT} characters together")
    return array


def _yaml(text: str, prefix: str) -> object:
    """Parse without type resolution: every scalar is the text as written."""
    try:
        parsed: object = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes texts, lists and maps only
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise MountError(f"{prefix}line {line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise MountError(f"{prefix}not YAML") from error
    return parsed


def _entry(index: int, entry: object) -> tuple[WantedObject | None, list[str]]:
    where = f"unmarshal failed for keyVaultObjects at index {index}"
    if not isinstance(entry, str):
        return None, [f'{where}, error: the entry is not a text; write "- |" before it']
    try:
        parsed = _yaml(entry, f"{where}, error: ")
    except MountError as error:
        return None, [str(error)]
    if not isinstance(parsed, dict):
        return None, [f"{where}, error: the text does not hold fields such as objectName"]
    texts: dict[str, str] = {}
    wrong: list[str] = []
    for name, value in parsed.items():
        if name not in FIELDS:
            continue
        if isinstance(value, str):
            texts[name] = value.strip()
        else:
            wrong.append(f"{where}, error: {name} is not a text")
    if wrong:
        return None, wrong
    return _file(texts)


def _file(texts: dict[str, str]) -> tuple[WantedObject | None, list[str]]:
    name, version, kind = (texts.get(field, "") for field in ("objectName", "objectVersion", "objectType"))
    path = texts.get("objectAlias", "") or name
    rules = [
        *_type_rules(kind, texts),
        *_name_rules(name, version),
        *_path_rules(path),
        *_number_rules(texts),
    ]
    if rules:
        title = f"failed to get objectType:{kind}, objectName:{name}, objectVersion:{version}"
        return None, [f"{title}: {rule}" for rule in rules]
    encoding = texts.get("objectEncoding", "").lower()
    permission = texts.get("filePermission", "")
    return WantedObject(
        kind=KINDS[kind],
        name=name,
        version="" if version.lower() == "latest" else version,
        path=path,
        pfx=texts.get("objectFormat", "").lower() == "pfx",
        encoding="base64" if encoding == "base64" else "hex" if encoding == "hex" else "",
        mode=int(permission.removeprefix("0o"), 8) if permission else None,
        history=max(int(texts.get("objectVersionHistory") or 1), 1),
    ), []


def _type_rules(kind: str, texts: dict[str, str]) -> list[str]:
    rules = []
    shape, encoding = texts.get("objectFormat", ""), texts.get("objectEncoding", "")
    if shape and shape.lower() not in {"pem", "pfx"}:
        rules.append(f"invalid objectFormat: {shape[:80]}, should be PEM or PFX")
    if kind != "secret" and shape.lower() == "pfx":
        rules.append("PFX format only supported for objectType: secret")
    if kind != "secret" and encoding:
        rules.append("objectEncoding only supported for objectType: secret")
    elif encoding and encoding.lower() not in {"hex", "base64", "utf-8"}:
        rules.append(f"invalid objectEncoding: {encoding[:80]}, should be hex, base64 or utf-8")
    if kind not in KINDS:
        rules.append("Invalid vaultObjectTypes. Should be secret, key, or cert")
    return rules


def _name_rules(name: str, version: str) -> list[str]:
    rules = []
    if not name:
        rules.append("objectName is not provided")
    elif not _OBJECT_NAME.fullmatch(name):
        rules.append("objectName must be 1 to 127 letters, digits and dashes")
    if version and not _VERSION.fullmatch(version):
        rules.append("objectVersion must be letters and digits, or be left out for the latest")
    return rules


def _path_rules(path: str) -> list[str]:
    if not path:
        return ["file name must not be empty"]
    if path.startswith("/"):
        return [f"file name {path[:80]} must be a relative path"]
    if ".." in path:
        return [f"file name {path[:80]} must not contain '..'"]
    parts = path.split("/")
    if any(part in {"", "."} for part in parts) or "\0" in path or not path.isprintable():
        return [f"file name {path[:80]!r} must be a clean path: no empty parts, no '.', printable"]
    if len(path.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_COMPONENT for part in parts):
        return [f"file name {path[:80]}... is too long: at most 255 bytes a part, 4096 in all"]
    return []


def _number_rules(texts: dict[str, str]) -> list[str]:
    rules = []
    permission, history = texts.get("filePermission", ""), texts.get("objectVersionHistory", "")
    if permission and not _OCTAL.fullmatch(permission):
        rules.append(f"invalid filePermission: {permission[:80]}, should be octal such as 0644")
    if history and not _HISTORY.fullmatch(history):
        rules.append(f"invalid objectVersionHistory: {history[:80]}, should be a whole number")
    elif history and int(history) > MAX_HISTORY:
        rules.append(f"objectVersionHistory: {history}, should be at most {MAX_HISTORY}")
    return rules


def _nested(files: list[WantedObject]) -> list[str]:
    """Find files that would have to be folders of others."""
    paths = {path for file in files for path in file.paths}
    return [
        f'objects: "{file.path}" needs a folder where file "{parent}" would be written'
        for file in files
        for parent in _parents(file.paths[0])
        if parent in paths
    ]


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
