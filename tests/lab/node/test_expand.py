"""Environment and arguments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.api.meta import ObjectMeta
from podidentity.lab.node.expand import PodFacts, UnresolvedError, environment, expand, field_value, references
from podidentity.lab.node.objects import (
    ContainerSpec,
    EnvFrom,
    EnvSource,
    EnvVar,
    FieldRef,
    FullPod,
    FullPodSpec,
    KeyRef,
    NameRef,
)

META = ObjectMeta(name="p", namespace="ns", uid="u", labels={"b": "2", "a/x": "1"}, annotations={"k": "v"})
POD = FullPod(metadata=META, spec=FullPodSpec(service_account_name="sa"))
FACTS = PodFacts("node", "10.0.0.1", "10.1.0.1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--node=$(NODE)", "--node=n"),
        ("$(A)$(NODE)", "$(A)n"),
        ("$$(NODE)", "$(NODE)"),
        ("$$$(NODE)", "$n"),
        ("100$", "100$"),
        ("$(NODE", "$(NODE"),
        ("$NODE ${NODE}", "$NODE ${NODE}"),
        ("$(N(ODE))", "$(N(ODE))"),
    ],
)
def test_references_are_replaced_as_kubernetes_does(text: str, expected: str) -> None:
    """Protects ``--node=$(NODE_NAME)`` and everything that only looks like it."""
    assert expand(text, {"NODE": "n"}) == expected


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_text_without_a_dollar_stays(text: str) -> None:
    """Protects every argument that refers to nothing."""
    assert expand(text, {"": "x"}) == text


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_a_value_is_not_expanded_again(text: str, env: dict[str, str]) -> None:
    """Protects against a variable's own text being read as a reference, and against any input that would raise."""
    assert isinstance(expand(text, env), str)
    assert expand("$(A)", {"A": "$(B)", "B": "x"}) == "$(B)"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels", 'a/x="1"\nb="2"'),
        ("metadata.labels['a/x']", "1"),
        ("metadata.labels['no']", ""),
        ("metadata.annotations['k']", "v"),
        ("spec.nodeName", "node"),
        ("spec.serviceAccountName", "sa"),
        ("status.podIP", "10.1.0.1"),
        ("status.hostIP", "10.0.0.1"),
    ],
)
def test_field_references(path: str, expected: str) -> None:
    """Protects each field a pod may ask for."""
    assert field_value(POD, path, FACTS) == expected


def test_an_unknown_field_is_refused() -> None:
    """Protects against an empty value where the manifest has a typing error."""
    with pytest.raises(UnresolvedError, match=r"spec\.nodename"):
        field_value(POD, "spec.nodename", FACTS)


def variable(name: str, **source: object) -> EnvVar:
    """A variable with a ``valueFrom``."""
    return EnvVar(name=name, value_from=EnvSource(**source))  # type: ignore[arg-type] # one of its fields


def test_the_environment_is_built_in_order() -> None:
    """Protects the precedence: base, envFrom, env; later variables see earlier ones."""
    spec = ContainerSpec(
        env_from=(EnvFrom(prefix="P_", config_map_ref=NameRef(name="c")), EnvFrom(secret_ref=NameRef(name="s"))),
        env=(
            EnvVar(name="A", value="$(P_x)-$(BASE)"),
            variable("B", secret_key_ref=KeyRef(name="s", key="k")),
            variable("C", config_map_key_ref=KeyRef(name="c", key="no", optional=True)),
            variable("D", field_ref=FieldRef(field_path="metadata.name")),
            EnvVar(name="BASE", value="$(A)!"),
        ),
    )
    assert references(spec) == {("configmap", "c"), ("secret", "s")}
    sources = {("configmap", "c"): {"x": b"1"}, ("secret", "s"): {"k": b"v"}}
    found = environment(POD, spec, {"BASE": "b"}, sources, FACTS)  # type: ignore[arg-type] # literal keys
    assert found == {"BASE": "1-b!", "P_x": "1", "k": "v", "A": "1-b", "B": "v", "D": "p"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ContainerSpec(env_from=(EnvFrom(secret_ref=NameRef(name="no")),)), 'secret "no" not found'),
        (ContainerSpec(env=(variable("X", secret_key_ref=KeyRef(name="no", key="k")),)), 'secret "no" not found'),
        (
            ContainerSpec(env=(variable("X", config_map_key_ref=KeyRef(name="c", key="no")),)),
            "couldn't find key no in ConfigMap ns/c",
        ),
        (ContainerSpec(env=(variable("X"),)), "the source of environment variable X is not supported"),
    ],
)
def test_what_is_missing_is_named(spec: ContainerSpec, message: str) -> None:
    """Protects the message of CreateContainerConfigError."""
    with pytest.raises(UnresolvedError, match=message):
        environment(POD, spec, {}, {("configmap", "c"): {}}, FACTS)


def test_optional_references_may_be_missing() -> None:
    """Protects ``optional: true``."""
    spec = ContainerSpec(
        env_from=(EnvFrom(config_map_ref=NameRef(name="no", optional=True)), EnvFrom()),
        env=(variable("X", secret_key_ref=KeyRef(name="no", key="k", optional=True)),),
    )
    assert environment(POD, spec, {}, {}, FACTS) == {}
