"""Which pods an AzurePodIdentityException lets through to the node's own metadata endpoint (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from podidentity.api.core import Pod
from podidentity.api.identity import AzurePodIdentityException


def excepted(pod: Pod, exceptions: Iterable[AzurePodIdentityException]) -> AzurePodIdentityException | None:
    """Return the first exception of the pod's own namespace that has a label the pod has too, else None.

    One common label is enough; its value is compared case-insensitively, its key exactly.
    """
    labels = pod.metadata.labels
    for exception in exceptions:
        if exception.namespace != pod.namespace:
            continue
        for key, value in exception.spec.pod_labels.items():
            have = labels.get(key)
            if have is not None and have.casefold() == value.casefold():
                return exception
    return None
