"""Objects of one mount asked for at the same time, on a virtual clock: as fast as the vault allows, no faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from tests.csi.conftest import attributes
from tests.csi.test_objects import array

from podidentity.azure.cloud import Cloud
from podidentity.azure.errors import AuthenticationFailed, AzureError, AzureUnavailable, KeyVaultError, Throttled
from podidentity.azure.keyvault import CertificateBundle, KeyBundle, ObjectVersion, SecretBundle
from podidentity.config.redact import SecretText
from podidentity.csi.errors import MountError
from podidentity.csi.mount import MountedFile, Mounter
from podidentity.csi.objects import ObjectKind
from podidentity.csi.pace import PER_MOUNT, PER_VAULT
from podidentity.csi.parameters import Mount, parse_mount

DELAY = 0.1
"""Seconds the vault takes to answer."""

pytestmark = pytest.mark.looptime(noop_cycles=1)


class Tokens:
    """Signs in at once."""

    async def token(self, mount: Mount, cloud: Cloud) -> SecretText:
        """A token."""
        assert mount.vault.startswith("kv-")
        assert cloud.key_vault_dns_suffix
        return SecretText("token")


@dataclass
class SlowVault:
    """Answers after ``delay``. ``refuse`` may say which error instead, after a fifth of it.

    ``asked``: when each name was asked for.
    """

    refuse: Callable[[str], AzureError | None] = lambda _name: None
    delay: float = DELAY
    asked: list[tuple[float, str]] = field(default_factory=list)
    running: int = 0
    most: int = 0
    finished: int = 0

    async def secret(self, vault_url: str, name: str, version: str, token: str) -> SecretBundle:
        """A secret named like its value."""
        assert (token, version) == ("token", "")
        self.asked.append((asyncio.get_running_loop().time(), name))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            refusal = self.refuse(name)
            if refusal is not None:
                await asyncio.sleep(self.delay / 5)
                raise refusal
            await asyncio.sleep(self.delay)
            self.finished += 1
        finally:
            self.running -= 1
        return SecretBundle(name, f"{vault_url}/secrets/{name}/1", "1")

    async def key(self, vault_url: str, name: str, version: str, token: str) -> KeyBundle:
        """Not used."""
        raise AssertionError((vault_url, name, version, token))

    async def certificate(self, vault_url: str, name: str, version: str, token: str) -> CertificateBundle:
        """Not used."""
        raise AssertionError((vault_url, name, version, token))

    async def versions(self, vault_url: str, kind: ObjectKind, name: str, token: str) -> tuple[ObjectVersion, ...]:
        """Not used."""
        raise AssertionError((vault_url, kind, name, token))


@dataclass
class Bench:
    """A mounter and its vault; ``seen``: what became of each request, as the metrics tell it."""

    vault: SlowVault
    seen: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Put it together."""
        self.mounter = Mounter(Tokens(), self.vault, cloud_name="AzurePublicCloud", environ={}, observe=self._observe)

    def _observe(self, _kind: str, seconds: float, word: str) -> None:
        self.seen.append((seconds, word))

    async def mount(self, count: int, vault: str = "kv-demo") -> tuple[MountedFile, ...]:
        """Mount so many secrets."""
        objects = array(*({"objectName": f"s{number}", "objectType": "secret"} for number in range(count)))
        return await self.mounter.mount(parse_mount(attributes(objects, keyvaultName=vault), "{}", "420"))

    async def seconds(self, count: int) -> float:
        """How long the vault is asked when so many secrets are mounted."""
        first = len(self.vault.asked)
        await self.mount(count)
        return asyncio.get_running_loop().time() - self.vault.asked[first][0]


def once(error: AzureError) -> Callable[[str], AzureError | None]:
    """Refuse the first request only."""
    left = [error]
    return lambda _name: left.pop() if left else None


def only(name: str, error: AzureError) -> Callable[[str], AzureError | None]:
    """Refuse one name."""
    return lambda asked: error if asked == name else None


async def test_k12_twenty_objects_take_as_long_as_one() -> None:
    """A mount of 20 objects takes at most 1.5 times the mount of one, and its files keep the order of the class."""
    bench = Bench(SlowVault())
    one = await bench.seconds(1)
    assert one == pytest.approx(DELAY)
    assert await bench.seconds(20) <= 1.5 * one
    assert [file.path for file in await bench.mount(20)] == [f"s{number}" for number in range(20)]


async def test_a_mount_has_a_bound() -> None:
    """A class of many objects has at most PER_MOUNT requests under way, and all of these."""
    bench = Bench(SlowVault())
    assert len(await bench.mount(3 * PER_MOUNT)) == 3 * PER_MOUNT
    assert bench.vault.most == PER_MOUNT


async def test_all_mounts_share_a_vaults_bound() -> None:
    """Many mounts at a time ask one vault no more than PER_VAULT things at a time; another vault is not held up."""
    bench = Bench(SlowVault())
    await asyncio.gather(*(bench.mount(10) for _ in range(20)))
    assert bench.vault.most == PER_VAULT
    await asyncio.gather(*(bench.mount(PER_MOUNT, f"kv-{letter}") for letter in "abc"))
    assert PER_VAULT < bench.vault.most <= 3 * PER_MOUNT


async def test_the_wait_for_a_turn_is_not_the_vaults() -> None:
    """The metric of the vault's requests tells how long the vault took, not how long a request waited its turn."""
    bench = Bench(SlowVault())
    await bench.mount(2 * PER_MOUNT)
    assert bench.seen == [(pytest.approx(DELAY), "")] * (2 * PER_MOUNT)


async def test_a_throttled_vault_is_left_alone() -> None:
    """A 429 with Retry-After holds up every request to that vault, of other mounts too, then all goes on."""
    bench = Bench(SlowVault(refuse=once(Throttled(429, "Throttled", "slow down", retry_after=3.0))))
    mounts = [asyncio.create_task(bench.mount(2 * PER_VAULT)), asyncio.create_task(bench.mount(20))]
    assert [len(files) for files in await asyncio.gather(*mounts)] == [2 * PER_VAULT, 20]
    begun = bench.vault.asked[0][0]
    # what was under way together with the refused one cannot be called back, all else comes after the pause
    early = [when for when, _ in bench.vault.asked if when < begun + 3.0]
    assert len(early) <= PER_VAULT
    assert len(bench.vault.asked) == 2 * PER_VAULT + 20 + 1


async def test_a_long_pause_is_refused_without_asking() -> None:
    """A vault that wants a minute is not waited for, nor asked by the next mount; a minute later it is asked."""
    bench = Bench(SlowVault(refuse=once(Throttled(429, "Throttled", "slow down", retry_after=60.0))))
    with pytest.raises(MountError, match="429 Throttled: slow down"):
        await bench.mount(1)
    with pytest.raises(MountError, match="429 Throttled: slow down"):
        await bench.mount(1)
    assert len(bench.vault.asked) == 1
    assert len(await bench.mount(1, "kv-other")) == 1
    await asyncio.sleep(60.0)
    assert len(await bench.mount(1)) == 1


@pytest.mark.parametrize(
    "error",
    [
        Throttled(429, "Throttled", "slow down", retry_after=60.0),
        AuthenticationFailed(401, "Unauthorized", "no such token"),
        AzureUnavailable("no route"),
        KeyVaultError(503, "Busy", "later", retry_after=30.0),
    ],
)
async def test_a_failing_vault_ends_the_other_requests(error: AzureError) -> None:
    """A failure that is no single object's ends what else is under way: one line, no file, nothing asked later."""
    bench = Bench(SlowVault(refuse=only("s0", error), delay=5.0))
    with pytest.raises(MountError) as caught:
        await bench.mount(3 * PER_MOUNT)
    assert str(caught.value).endswith(f"failed to get objectType:secret, objectName:s0, objectVersion:: {error}")
    assert (bench.vault.running, bench.vault.finished) == (0, 0)
    # the request that got the turn of the failed one may have begun
    assert [word for _, word in bench.seen].count("canceled") in {PER_MOUNT - 1, PER_MOUNT}
    asked = len(bench.vault.asked)
    await asyncio.sleep(100.0)
    assert len(bench.vault.asked) == asked


async def test_a_missing_object_does_not_end_the_others() -> None:
    """A failure that is one object's alone lets the others be asked for: all mistakes of a class show at once."""
    missing = KeyVaultError(404, "SecretNotFound", "not found")
    bench = Bench(SlowVault(refuse=lambda name: missing if name in {"s0", "s30"} else None))
    with pytest.raises(MountError) as caught:
        await bench.mount(31)
    assert [name in str(caught.value) for name in ("objectName:s0,", "objectName:s30,")] == [True, True]
    assert bench.vault.finished == 29


async def test_the_deadline_ends_every_request() -> None:
    """When the driver's deadline comes, requests under way and those that wait for a throttled vault end with it."""
    bench = Bench(SlowVault(refuse=lambda _name: Throttled(429, "Throttled", "slow down", retry_after=4.0)))
    mounting = asyncio.create_task(bench.mount(30))
    while not bench.vault.asked:  # noqa: ASYNC110 - the parsing before runs in a thread, outside of virtual time
        await asyncio.sleep(DELAY)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.0):
            await mounting
    assert mounting.cancelled()
    asked = len(bench.vault.asked)
    await asyncio.sleep(100.0)
    assert (len(bench.vault.asked), bench.vault.running) == (asked, 0)
