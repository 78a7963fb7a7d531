"""The thread through all services that everything else hangs on."""

import jwt
from tests.lab.cloud.conftest import APP1, TENANT, VAULT, VM, Azure


async def test_attach_then_token_then_secret(azure: Azure) -> None:
    """Protects the walkthrough's chain: PATCH through ARM, token from IMDS, secret from the vault."""
    await azure.attach(VM, APP1)
    client = azure.client_id(APP1)
    status, answer = await azure.imds(f"api-version=2018-02-01&resource={VAULT}&client_id={client}")
    assert (status, answer["client_id"]) == (200, client)
    status, bundle, _ = await azure.vault("kv1", "/secrets/kvs-test01/", token=answer["access_token"])
    assert (status, bundle["value"]) == (200, "e+9qBwdjC<q6<P_n")


async def test_tokens_verify_with_the_published_keys(azure: Azure) -> None:
    """Protects that an independent library accepts our tokens by nothing but the published key set."""
    await azure.attach(VM, APP1)
    query = f"api-version=2018-02-01&resource={VAULT}&msi_res_id={APP1}"
    _, answer = await azure.imds(query)
    async with azure.session.get(f"{azure.running.entra_url}/common/discovery/keys") as reply:
        keys = jwt.PyJWKSet.from_dict(await reply.json())
    token = answer["access_token"]
    key = keys[jwt.get_unverified_header(token)["kid"]].key
    options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=VAULT, options=options)
    assert claims["iss"] == f"https://sts.windows.net/{TENANT}/"
    assert claims["appid"] == azure.client_id(APP1)
    assert claims["oid"] == azure.running.world.identities[APP1.casefold()].principal_id
    assert claims["xms_mirid"] == APP1
    assert claims["exp"] - claims["nbf"] == 86_400
