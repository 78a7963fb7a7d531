"""``mic --drain``: everything we attached comes off, nothing is stuck, then it ends."""

from __future__ import annotations

import asyncio

import pytest
from tests.mic.component.conftest import POOL, Site, mic_of, put_pod, running_mic, whole_mic

from podidentity.api.resources import AZURE_IDENTITIES, PODS
from podidentity.config.errors import ConfigError
from podidentity.mic.drain import scale_to_zero


async def _assigned(site: Site) -> None:
    """Two pods with an identity, and mic gone again."""
    async with running_mic(site):
        await put_pod(site, "p", "app1")
        await put_pod(site, "q", "app1")
        await site.until(lambda states: states == {"p-default-app1": "Assigned", "q-default-app1": "Assigned"})


async def test_draining_takes_off_what_we_attached_and_ends(site: Site) -> None:
    """Protects an uninstall: with pods still running, records and our identities go, what was there before stays."""
    await _assigned(site)
    async with whole_mic(site, mic_of("drain", "--drain", "--identity-removal-linger=1h")) as (app, _, _):
        async with asyncio.timeout(20):
            await app.run()
    assert await site.states() == {}
    assert site.attached() == {"kubelet"}
    assert "SystemAssigned" in str(site.azure.admin.identities_on(POOL)["type"])
    assert len((await site.client.list(PODS)).items) == 2
    assert len((await site.client.list(AZURE_IDENTITIES)).items) == 2


async def test_draining_nothing_ends_at_once(site: Site) -> None:
    """Protects the hook of a cluster that never had an assignment."""
    async with whole_mic(site, mic_of("drain", "--drain")) as (app, _, _), asyncio.timeout(10):
        await app.run()


async def test_draining_waits_for_the_leader_that_goes(site: Site) -> None:
    """Protects against two writers: while another mic leads nothing is drained; in time, its end is waited for."""
    async with whole_mic(site, mic_of("drain", "--drain")) as (app, _, _):
        async with running_mic(site):
            await put_pod(site, "p", "app1")
            await site.until(lambda states: states == {"p-default-app1": "Assigned"})
            draining = asyncio.create_task(app.run())
            await asyncio.sleep(1)
            assert await site.states() == {"p-default-app1": "Assigned"}
        async with asyncio.timeout(20):
            await draining
    assert await site.states() == {}


async def test_what_cannot_be_drained_is_named(site: Site) -> None:
    """Protects the person who uninstalls: past the time there is one line with what is left and how to go on."""
    await _assigned(site)
    site.azure.admin.set_faults(arm_operation_error="InternalServerError: no")
    async with whole_mic(site, mic_of("drain", "--drain", "--drain-timeout=4s")) as (app, _, _):
        with pytest.raises(ExceptionGroup) as caught:
            await app.run()
    (error,) = caught.value.exceptions
    assert isinstance(error, ConfigError)
    assert str(error).startswith(
        "--drain: after 4 s 2 assigned identities are left (default/p-default-app1, default/q-default-app1); "
    )


async def test_the_deployment_is_scaled_down_first(site: Site) -> None:
    """Protects the hook, which runs while mic does: its Deployment is scaled to 0, if it is there."""
    labels = {"app": "mic"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    path = "/apis/apps/v1/namespaces/default/deployments"
    await site.put(path, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "mic"}, "spec": spec})
    await scale_to_zero(site.client, "default/mic")
    assert b'"replicas":0' in (await site.client.raw("GET", f"{path}/mic")).replace(b" ", b"")
    await scale_to_zero(site.client, "default/other")
    await scale_to_zero(site.client, "")
