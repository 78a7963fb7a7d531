"""The objects parameter: texts as written, every mistake at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.csi.errors import MountError
from podidentity.csi.objects import WantedObject, parse_objects

UNKNOWN_TYPE = "Invalid vaultObjectTypes. Should be secret, key, or cert"


def array(*entries: dict[str, str]) -> str:
    """The parameter with these entries."""
    blocks = ["".join(f"    {name}: {value}\n" for name, value in entry.items()) for entry in entries]
    return "array:\n" + "".join(f"  - |\n{block}" for block in blocks)


def refusal(text: str) -> str:
    """The refusal's text, empty without one."""
    try:
        parse_objects(text)
    except MountError as error:
        return str(error)
    return ""


def entry(**fields: str) -> dict[str, str]:
    """A secret with more fields."""
    return {"objectName": "s1", "objectType": "secret", **fields}


@pytest.mark.parametrize("version", ["0123", "1234e56", "12345678901234567890123456789012", "true", "0x10"])
def test_scalars_are_taken_as_written(version: str) -> None:
    """A version or mode that looks like a number stays the text it is."""
    (file,) = parse_objects(array(entry(objectVersion=version, filePermission="0755")))
    assert (file.version, file.mode) == (version, 0o755)


def test_all_fields() -> None:
    """Every field of a secret is read; blanks around values do not count; unknown fields are ignored."""
    text = array(
        entry(
            objectAlias="dir/file",
            objectVersion="latest",
            objectVersionHistory="1",
            objectFormat="PFX",
            objectEncoding="Base64",
            filePermission='"0o640"',
            other="x",
        )
    )
    assert parse_objects(text) == (WantedObject("s1", "", "dir/file", pfx=True, encoding="base64", mode=0o640),)


def test_every_mistake_at_once() -> None:
    """All mistakes of all entries are listed, with index or object, in order."""
    text = (
        array(entry(objectFormat="d"), entry(objectName="k", objectType=""), {"objectType": "secret"})
        + "  - objectName: not-a-text\n"
        + "  - |\n    [a, b]\n"
    )
    assert refusal(text).split("; ") == [
        "failed to get objectType:secret, objectName:s1, objectVersion:: invalid objectFormat: d, should be PEM or PFX",
        f"failed to get objectType:, objectName:k, objectVersion:: {UNKNOWN_TYPE}",
        "failed to get objectType:secret, objectName:, objectVersion:: objectName is not provided",
        "failed to get objectType:secret, objectName:, objectVersion:: file name must not be empty",
        "unmarshal failed for keyVaultObjects at index 3, error: the entry is not a text",
        'write "- |" before it',
        "unmarshal failed for keyVaultObjects at index 4, error: the text does not hold fields such as objectName",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"objectType": "Secret"}, UNKNOWN_TYPE),
        ({"objectType": "cert", "objectFormat": "pFx"}, "PFX format only supported for objectType: secret"),
        ({"objectType": "key", "objectFormat": "PFX"}, "PFX format only supported for objectType: secret"),
        ({"objectType": "key", "objectEncoding": "hex"}, "objectEncoding only supported for objectType: secret"),
        ({"objectEncoding": "utf-16"}, "invalid objectEncoding: utf-16, should be hex, base64 or utf-8"),
        ({"objectAlias": "/etc/passwd"}, "must be a relative path"),
        ({"objectAlias": "../x"}, "must not contain '..'"),
        ({"objectAlias": "a..b"}, "must not contain '..'"),
        ({"objectAlias": "a//b"}, "must be a clean path"),
        ({"objectAlias": "./a"}, "must be a clean path"),
        ({"objectAlias": "a/"}, "must be a clean path"),
        ({"objectAlias": '"a\\0b"'}, "must be a clean path"),
        ({"objectAlias": "x" * 256}, "too long"),
        ({"objectName": "a_b"}, "objectName must be"),
        ({"objectName": "../../x"}, "objectName must be"),
        ({"objectVersion": "../x"}, "objectVersion must be"),
        ({"filePermission": "0999"}, "invalid filePermission: 0999"),
        ({"filePermission": "rw"}, "invalid filePermission: rw"),
        ({"objectVersionHistory": "101"}, "objectVersionHistory: 101, should be at most 100"),
        ({"objectVersionHistory": "x"}, "invalid objectVersionHistory: x"),
        ({"objectAlias": "[a]"}, "objectAlias is not a text"),
        ({"objectAlias": "*none"}, "unmarshal failed for keyVaultObjects at index 0"),
    ],
)
def test_rules(fields: dict[str, str], expected: str) -> None:
    """Each rule of the contract refuses with its text."""
    assert expected in refusal(array(entry(**fields)))


@pytest.mark.parametrize("history", ["0", "1", "-3"])
def test_history_of_one(history: str) -> None:
    """A history of one or less means one file."""
    assert len(parse_objects(array(entry(objectVersionHistory=history)))) == 1


def test_k3_one_file_from_two_objects() -> None:
    """Two objects with one file name, or a file where a folder must be, are refused."""
    assert 'more than one object would be written to file "s1"' in refusal(array(entry(), entry(objectName="s1")))
    history = array(entry(objectVersionHistory="3"), entry(objectName="s2", objectAlias="s1/2"))
    assert 'more than one object would be written to file "s1/2"' in refusal(history)
    history = array(entry(objectVersionHistory="3"), entry(objectName="s2", objectAlias="s1"))
    assert 'objects: "s1" needs a folder where file "s1" would be written' in refusal(history)
    many = array(*[entry(objectName=f"s{i}", objectVersionHistory="100") for i in range(6)])
    assert "600 files with all versions, at most 500" in refusal(many)
    nested = array(entry(objectAlias="a"), entry(objectAlias="a/b/c"))
    assert 'objects: "a/b/c" needs a folder where file "a" would be written' in refusal(nested)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("array:", 'must be "array:" followed by a list'),
        ("x: y", 'must be "array:" followed by a list'),
        ("- a", 'must be "array:" followed by a list'),
        ("array: [", "failed to yaml unmarshal objects, error: line"),
        ("array:\n\t- x", "failed to yaml unmarshal objects, error: line"),
        ("array: " + "[" * 60_000, "failed to yaml unmarshal objects"),
        ("x" * 200_000, "longer than"),
        ("array: []", "the array is empty"),
        ("array:\n" + "- a\n" * 501, "at most 500"),
        ("a: &a [x]\narray: [*a, *a, *a]", "at index 0, error: the entry is not a text"),
        ("!!python/object:os.system x", 'must be "array:"'),
        ("\x00", "failed to yaml unmarshal objects"),
    ],
)
def test_no_array(text: str, expected: str) -> None:
    """A text that is no array of entries says so."""
    assert expected in refusal(text)


def test_mistakes_are_bounded() -> None:
    """A class full of mistakes makes a short message that tells how many there are."""
    text = refusal(array(*[entry(objectName=f"s{i}", objectFormat="x") for i in range(30)]))
    assert text.endswith("; and 20 more")


@given(text=st.text(max_size=300) | st.text(alphabet="array: -|\n[]{}&*!objectNametype\"'", max_size=200))
def test_any_text(text: str) -> None:
    """No text whatever makes anything but files or a MountError."""
    refusal(text)
    refusal(f"array:\n  - |\n    {text}")


def test_aliases_do_not_multiply_the_work() -> None:
    """One long text repeated by YAML aliases is refused, not parsed hundreds of times."""
    filler = "x" * 60_000
    assert "together" in refusal(f"x: &a {filler}\narray: [{'*a,' * 450}]\n")
