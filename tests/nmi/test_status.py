"""``/status`` and the metrics behind it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.nmi.conftest import Make, Start
from tests.nmi.test_keeper import PATH, FakeNft

from podidentity.nmi.datapath.keeper import Keeper
from podidentity.nmi.datapath.nft import Nft
from podidentity.nmi.status import Status
from podidentity.nmi.verdict import RULES
from podidentity.telemetry.logging import get_logger

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "audit.md"


async def test_status_tells_the_state_and_nobody(start: Start, make: type[Make]) -> None:
    """The object says what an operator asks first, and names no pod, no id and no token."""
    bench = await start()
    pod = make.pod()
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    token = (await bench.token()).json["access_token"]
    await bench.token()
    await bench.get("/nothing", "127.1.0.1")
    bench.app.tokens.conditions.raised("Secret team/sp", "Secret team/sp has no password")
    keeper = Keeper(Nft(PATH, run=FakeNft()), interval=60, log=get_logger())
    status = Status(bench.settings, "0.1.0", bench.app, keeper, bench.audit, lambda: [keeper.trouble])
    report = json.loads(json.dumps(status.report()))
    assert (report["ready"], report["notReady"]) == (False, ["the redirect is not in place yet"])
    assert report["datapath"] == {"inPlace": False, "repairs": 0}
    assert report["requests"]["refusedByCause"] == {"path": 1}
    assert report["tokens"] == {"cached": 1, "hits": 1, "misses": 1, "hitRatio": 0.5}
    assert report["metadataService"]["callsPerSecond"] == 10.0
    assert report["conditions"][0]["text"] == "Secret team/sp has no password"
    text = json.dumps(report)
    assert not [word for word in (token, "client-of", "team/web", "uid-web", "127.1.0.1") if word in text]
    bench.metrics.before_render(lambda: status.sample(bench.metrics))
    shown = bench.metrics.render().decode()
    assert "aadpodidentity_nmi_token_cache_hits_count 1.0" in shown
    assert 'aadpodidentity_nmi_refusals_count{cause="path"} 1.0' in shown
    assert "aadpodidentity_nmi_datapath_in_place 0.0" in shown


def test_every_rule_is_documented() -> None:
    """The page of audit events lists the rules as they are."""
    page = DOCS.read_text()
    for rule, (verdict, meaning) in RULES.items():
        assert f"| `{rule}` | {verdict} | {meaning} |" in page
