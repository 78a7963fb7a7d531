"""Several kubeconfig files, as kubectl takes them in ``KUBECONFIG``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from podidentity.config.errors import ConfigError
from podidentity.kube.settings import load_settings


def written(path: Path, **fields: object) -> str:
    """A kubeconfig with a cluster, a user and a context named after its file, in a folder of its own."""
    name = path.name
    document = {
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:443", "certificate-authority": "ca.crt"}}],
        "users": [{"name": name, "user": {"client-certificate": "me.crt", "client-key": "/keys/me.key"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"of-{name}"}}],
        **fields,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_the_first_that_names_it_counts(tmp_path: Path) -> None:
    """The current context is the first file's that has one; names in later files are found, their paths stay theirs."""
    one = written(tmp_path / "a" / "one")
    again = {"name": "one", "cluster": {"server": "https://other:443"}}
    two = written(tmp_path / "b" / "two", **{"current-context": "two"})
    three = written(tmp_path / "c" / "three", clusters=[again], **{"current-context": "three"})
    (tmp_path / "empty").touch()
    files = f"{one}:{tmp_path}/missing::{tmp_path}/empty:{two}:{three}"
    found = load_settings(files, {})
    assert (found.server, found.namespace) == ("https://two:443", "of-two")
    assert (found.ca_file, found.client_cert_file, found.client_key_file) == (
        str(tmp_path / "b" / "ca.crt"),
        str(tmp_path / "b" / "me.crt"),
        "/keys/me.key",
    )
    assert load_settings(files, {}, context="one").server == "https://one:443"
    assert load_settings(f"{tmp_path}/missing:{one}", {}, context="one").ca_file == str(tmp_path / "a" / "ca.crt")


def test_a_context_may_join_what_two_files_have(tmp_path: Path) -> None:
    """Clusters in one file, people in another."""
    one = written(tmp_path / "one", users=[], contexts=[])
    context = {"name": "mine", "context": {"cluster": "one", "user": "two"}}
    two = written(tmp_path / "two", clusters=[], contexts=[context], **{"current-context": "mine"})
    assert load_settings(f"{one}:{two}", {}).server == "https://one:443"


def test_a_file_with_a_colon_in_its_name_is_one_file(tmp_path: Path) -> None:
    """It is there, so it is meant."""
    assert load_settings(written(tmp_path / "a:b"), {}, context="a:b").server == "https://a:b:443"


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("x: [", "is no kubeconfig: line 1: "),
        ("[]", "it must be an object with clusters, contexts and users"),
        ("clusters: [x]", "it must be an object with clusters, contexts and users"),
        ("clusters: [{name: x}]", "'cluster' is missing"),
        ("{}", "no current-context (contexts there: one)"),
    ],
)
def test_a_wrong_file_among_them_is_one_line(tmp_path: Path, second: str, words: str) -> None:
    """As with one file."""
    (tmp_path / "second").write_text(second)
    with pytest.raises(ConfigError) as caught:
        load_settings(f"{written(tmp_path / 'one')}:{tmp_path / 'second'}", {})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_none_of_them_is_there(tmp_path: Path) -> None:
    """The line names all."""
    files = f"{tmp_path}/one:{tmp_path}/two"
    with pytest.raises(ConfigError, match="not found") as caught:
        load_settings(files, {})
    assert str(caught.value).startswith(files)
