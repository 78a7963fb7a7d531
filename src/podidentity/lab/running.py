"""A lab that runs, as its user holds it."""

from __future__ import annotations

from dataclasses import dataclass

from podidentity.lab.azure import LabAzure
from podidentity.lab.cluster import Cluster
from podidentity.lab.layout import Layout
from podidentity.lab.spec import LabSpec


@dataclass(frozen=True, slots=True)
class RunningLab:
    """What exists (``spec``, ``layout``) and the two ways to act on it: the cluster and Azure."""

    spec: LabSpec
    layout: Layout
    cluster: Cluster
    azure: LabAzure
