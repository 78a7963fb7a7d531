"""What is taken out of kubectl's answers before two are compared, and what is not."""

from __future__ import annotations

from tests.kubectl.normal import normal

SERVICE = "Session Affinity:         None\nInternal Traffic Policy:  Cluster\n"
HEAD = "Events:\n  Type     Reason  Age  From  Message\n  ----     ------  ---  ----  -------\n"
REPAIRED = (
    "  Warning  ClusterIPNotAllocated  3s  ipallocator-repair-controller  "
    "Cluster IP [IPv4]: 10.0.0.172 is not allocated; repairing\n"
)


def test_an_event_of_the_repair_loop_is_chance() -> None:
    """The real server writes it when the loop looks while a service is being made; an Event of another reason stays."""
    assert normal(SERVICE + HEAD + REPAIRED) == normal(f"{SERVICE}Events:                   <none>\n")
    assert normal(SERVICE + HEAD + REPAIRED + REPAIRED.strip("\n")) == normal(f"{SERVICE}Events:  <none>")
    other = REPAIRED.replace("ClusterIPNotAllocated", "ClusterIPOutOfRange")
    assert normal(SERVICE + HEAD + other) != normal(f"{SERVICE}Events:  <none>")
