"""From a seed to a world: generated ids, names, and mistakes told in one line."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lab.cloud.conftest import SEED, TENANT, Time

from podidentity.lab.cloud import SeedError, load_seed, parse_seed
from podidentity.lab.cloud.planting import plant
from podidentity.lab.cloud.world import World, random_guid


def planted(folder: Path, **parts: object) -> World:
    """A world with a seed."""
    world = World(folder, wall=Time(), new_guid=random_guid)
    try:
        plant(world, parse_seed(json.dumps(parts)))
    except SeedError:
        world.close()
        raise
    return world


def test_the_same_seed_gives_the_same_ids(tmp_path: Path) -> None:
    """Protects documentation and recordings: ids repeat from run to run, and differ between seeds."""
    parts: dict[str, object] = {"identities": [{"name": "a", "resourceGroup": "g"}]}
    parts["scaleSets"] = [{"name": "s", "resourceGroup": "g", "systemAssigned": True}]
    worlds = [planted(tmp_path / str(number), id=name, **parts) for number, name in enumerate(("x", "x", "y"))]
    first, second, other = (
        (world.directory.tenant_id, next(world.identities.values()), next(world.hosts.values())) for world in worlds
    )
    for world in worlds:
        world.close()
    assert first == second
    assert not set(map(str, first)) & set(map(str, other))


def test_principals_are_found_by_every_kind_of_name(tmp_path: Path) -> None:
    """Protects the short names that seeds use for whom a role is given."""
    app = "66666666-6666-6666-6666-666666666666"
    names = ["a", "g/a", "system:s", app, "77777777-7777-7777-7777-777777777777", TENANT]
    world = planted(
        tmp_path,
        identities=[{"name": "a", "resourceGroup": "g", "clientId": "77777777-7777-7777-7777-777777777777"}],
        vms=[{"name": "s", "resourceGroup": "g", "systemAssigned": True}],
        servicePrincipals=[{"clientId": app}],
        roleAssignments=[{"principal": name, "role": "Reader", "scope": "g"} for name in names],
    )
    found = [row.principal_id for row in world.assignments.values()]
    identity, host = next(world.identities.values()).principal_id, next(world.hosts.values()).identity.system
    assert found == [identity, host, world.principals[app].object_id, TENANT]
    world.close()


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"vms": [{"name": "v", "resourceGroup": "g", "identities": ["none"]}]}, 'there is no identity "none"'),
        ({"nics": [{"cidr": "10.0.0.0/8", "resourceId": "/x"}]}, 'there is no machine "/x"'),
        ({"nics": [{"cidr": "10.0.0.0/33", "resourceId": "/x"}]}, "10.0.0.0/33"),
        ({"roleAssignments": [{"principal": "system:v", "role": "Reader"}]}, '"system:v" is not one host'),
        (
            {
                "identities": [{"name": "a", "resourceGroup": "g"}, {"name": "a", "resourceGroup": "h"}],
                "roleAssignments": [{"principal": "a", "role": "Reader"}],
            },
            "in several resource groups",
        ),
        ({"vaults": [{"name": "v"}]}, "resourceGroup"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, parts: dict[str, object], text: str) -> None:
    """Protects whoever writes a seed: what is wrong, in one line, and nothing is planted."""
    with pytest.raises(SeedError, match=text) as caught:
        planted(tmp_path, **parts)
    assert "\n" not in str(caught.value)
    world = World(tmp_path, wall=Time(), new_guid=random_guid)
    assert not world.planted
    world.close()


def test_a_file_that_is_not_a_seed(tmp_path: Path) -> None:
    """Protects the command's message: it names the file."""
    path = tmp_path / "seed.json"
    path.write_text(SEED)
    assert load_seed(path).id == "test"
    path.write_text("{")
    with pytest.raises(SeedError, match=r"seed\.json"):
        load_seed(path)


@given(st.binary() | st.recursive(st.none() | st.text(), lambda x: st.dictionaries(st.text(), x)).map(json.dumps))
def test_any_bytes_are_a_seed_or_refused(data: bytes | str) -> None:
    """Protects the parser from failing otherwise than by its own error."""
    with contextlib.suppress(SeedError):
        parse_seed(data)
