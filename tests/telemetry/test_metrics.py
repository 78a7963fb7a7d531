"""Metrics under the contract's names."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from podidentity.telemetry.metrics import BUCKETS_A, BUCKETS_B, BUCKETS_NMI, Metrics

NAMES = {
    "assigned_identity_addition_duration_seconds": BUCKETS_A,
    "assigned_identity_addition_count": (),
    "assigned_identity_deletion_duration_seconds": BUCKETS_A,
    "assigned_identity_deletion_count": (),
    "assigned_identity_update_duration_seconds": BUCKETS_A,
    "assigned_identity_update_count": (),
    "mic_cycle_duration_seconds": BUCKETS_B,
    "mic_cycle_count": (),
    "mic_new_leader_election_count": (),
}
BY_OPERATION = {
    "cloud_provider_operations_duration_seconds": BUCKETS_B,
    "cloud_provider_operations_errors_count": (),
    "kubernetes_api_operations_errors_count": (),
    "imds_operations_duration_seconds": BUCKETS_A,
    "imds_operations_errors_count": (),
}


def lines(metrics: Metrics) -> list[str]:
    """Give the samples' lines."""
    return [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]


def test_nothing_is_there_before_it_is_recorded() -> None:
    """A series is absent until its first value: dashboards of the original rely on it."""
    assert Metrics().render() == b""


def test_every_name_of_the_contract_can_be_recorded() -> None:
    """All fifteen names exist with the original's kinds, labels and buckets."""
    metrics = Metrics()
    for names, labels in ((NAMES, {}), (BY_OPERATION, {"operation_type": "vm_get"})):
        for name, buckets in names.items():
            if buckets:
                metrics.observe(name, 0.25, **labels)
            else:
                metrics.count(name, **labels)
    metrics.observe(
        "nmi_operations_duration_seconds", 1, operation_type="x", status_code="200", namespace="n", resource="r"
    )
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    assert len(families) == 15
    for name, buckets in {**NAMES, **BY_OPERATION, "nmi_operations_duration_seconds": BUCKETS_NMI}.items():
        family = families["aadpodidentity_" + name]
        assert family.type == ("histogram" if buckets else "counter")
        bounds = [sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")]
        assert bounds == [*(f"{bound:g}" for bound in buckets), *(["+Inf"] if buckets else [])]


def test_counters_have_no_total() -> None:
    """A counter's name is exactly the original's, in its header too."""
    metrics = Metrics()
    metrics.count("mic_cycle_count")
    metrics.count("mic_cycle_count", 2)
    text = metrics.render().decode()
    assert "# TYPE aadpodidentity_mic_cycle_count counter\naadpodidentity_mic_cycle_count 3.0\n" in text
    assert "_total" not in text


def test_histograms_add_up() -> None:
    """Buckets are cumulative, a value on a bound belongs to it, sum and count are right."""
    metrics = Metrics("")
    metrics.declare("t", "histogram", "time", (), (0.5, 1))
    for seconds in (0.25, 0.5, 0.75, 9):
        metrics.observe("t", seconds)
    assert lines(metrics) == [
        't_bucket{le="0.5"} 2.0',
        't_bucket{le="1"} 3.0',
        't_bucket{le="+Inf"} 4.0',
        "t_count 4.0",
        "t_sum 10.5",
    ]


def test_labels_keep_series_apart_and_are_escaped() -> None:
    """Each combination of label values is a series, and no value can forge a line or a header."""
    metrics = Metrics("")
    metrics.declare("c", "counter", "it", ("a", "b"))
    metrics.declare("g", "gauge", "it", ("a",))
    metrics.count("c", a="1", b="2")
    metrics.count("c", b="1", a="2")
    metrics.gauge("g", 7, a='"\n# TYPE x_total counter')
    metrics.gauge("g", 5, a='"\n# TYPE x_total counter')
    assert lines(metrics) == ['c{a="1",b="2"} 1.0', 'c{a="2",b="1"} 1.0', 'g{a="\\"\\n# TYPE x_total counter"} 5.0']


def test_programming_errors_are_key_errors() -> None:
    """A name, kind or label that was not declared fails where it is used."""
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.count("no_such_name")
    with pytest.raises(KeyError):
        metrics.count("mic_cycle_duration_seconds")
    with pytest.raises(KeyError):
        metrics.observe("mic_cycle_count", 1)
    with pytest.raises(KeyError):
        metrics.gauge("mic_cycle_count", 1)
    with pytest.raises(KeyError):
        metrics.count("imds_operations_errors_count")
    with pytest.raises(KeyError):
        metrics.count("imds_operations_errors_count", operation="x")
    assert metrics.render() == b""


def test_senseless_declarations_are_refused() -> None:
    """A name declared twice, buckets where there are none, and a falling counter are errors."""
    metrics = Metrics()
    with pytest.raises(ValueError, match="twice"):
        metrics.declare("mic_cycle_count", "counter", "again")
    with pytest.raises(ValueError, match="only they"):
        metrics.declare("x", "histogram", "no buckets")
    with pytest.raises(ValueError, match="only they"):
        metrics.declare("x", "counter", "buckets", (), (1,))
    with pytest.raises(ValueError, match="cannot fall"):
        metrics.count("mic_cycle_count", -1)
