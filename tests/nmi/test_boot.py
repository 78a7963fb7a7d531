"""The boot guard: what is written to the node, and that all of it goes again."""

from __future__ import annotations

from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError, UsageError
from podidentity.config.nmi import nmi_settings
from podidentity.nmi.datapath.boot import UNIT, files, install, uninstall
from podidentity.nmi.datapath.rules import Datapath
from podidentity.nmi.once import once
from podidentity.telemetry.logging import get_logger

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "boot-guard.md"
PATH = Datapath(target="192.0.2.1")


def node(root: Path, *programs: str) -> Path:
    """Make a node's file system with these programs."""
    for name in programs:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_unit_runs_before_the_kubelet_and_survives_a_kernel_without_bridge_filter(tmp_path: Path) -> None:
    """The unit is enabled for the next boot, ordered before the kubelet, and the bridge's part may fail alone."""
    root = node(tmp_path, "usr/sbin/nft", "usr/sbin/iptables-restore")
    assert install(PATH, str(root)) == install(PATH, str(root)) == "/usr/sbin/nft"
    text = (root / "etc/systemd/system" / UNIT).read_text()
    assert "Before=network-pre.target kubelet.service\n" in text
    assert "ExecStart=/usr/sbin/nft -f /etc/podidentity/guard\n" in text
    assert "ExecStart=-/usr/sbin/nft -f /etc/podidentity/guard-bridge\n" in text
    for target in ("multi-user.target", "kubelet.service"):
        assert (root / "etc/systemd/system" / f"{target}.wants" / UNIT).read_text() == text
    assert "dnat" not in (root / "etc/podidentity/guard").read_text()
    uninstall(str(root))
    uninstall(str(root))
    assert [path for path in (root / "etc").rglob("*") if not path.is_dir()] == []


def test_node_with_iptables_alone_and_one_with_neither(tmp_path: Path) -> None:
    """iptables-restore does as well; where nothing can load a guard, none is promised."""
    assert install(PATH, str(node(tmp_path / "a", "sbin/iptables-restore"))) == "/sbin/iptables-restore"
    rules = (tmp_path / "a/etc/podidentity/guard").read_text()
    assert rules.startswith("*filter\n:aad-guard - [0:0]\n")
    assert "-d 64:ff9b::a9fe:a9fe/128 -j DROP\n" in (tmp_path / "a/etc/podidentity/guard6").read_text()
    unit = (tmp_path / "a/etc/systemd/system" / UNIT).read_text()
    assert "ExecStart=-/sbin/ip6tables-restore --noflush --wait 5 /etc/podidentity/guard6\n" in unit
    with pytest.raises(ConfigError, match="neither nft nor iptables-restore"):
        install(PATH, str(tmp_path / "b"))


async def test_flags_do_it_and_end(tmp_path: Path) -> None:
    """An init container runs it: no API, no address of the node and no node name are needed."""
    root = node(tmp_path, "usr/sbin/nft")
    flags = [f"--host-root={root}"]
    assert await once(nmi_settings(["--install-boot-guard", *flags], {}), get_logger())
    assert (root / "etc/systemd/system" / UNIT).is_file()
    assert await once(nmi_settings(["--uninstall-boot-guard", *flags], {}), get_logger())
    assert not (root / "etc/systemd/system" / UNIT).exists()
    with pytest.raises(UsageError, match="exclude each other"):
        nmi_settings(["--install-boot-guard", "--uninstall-boot-guard"], {})


def test_snippet_of_the_page_is_what_nmi_writes() -> None:
    """Who bootstraps nodes by hand gets the same files as who lets nmi write them."""
    page = PAGE.read_text()
    for name, text in files(PATH, "/usr/sbin/nft").items():
        assert f"cat > /{name} <<'EOF'\n{text}EOF\n" in page
