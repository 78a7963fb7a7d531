"""Runs in a pod: a Secrets Store provider that answers with its attributes and with the text of /provider/value."""

import asyncio
import json
from pathlib import Path

import grpc

from podidentity.csi.proto import provider_pb2

FOLDER = Path("/provider")


async def mount(request: provider_pb2.MountRequest, context: grpc.aio.ServicerContext) -> provider_pb2.MountResponse:
    """One volume; parameters choose what goes wrong."""
    given = json.loads(request.attributes)
    if given.get("refuse"):
        await context.abort(grpc.StatusCode.UNKNOWN, "failed to mount objects, error: refused by the test")
    value = (FOLDER / "value").read_text()
    response = provider_pb2.MountResponse()
    response.object_version.add(id="secret/s", version=value)
    response.files.add(path=given.get("file", "sub/s"), mode=0o640, contents=value.encode())
    seen = {"attributes": given, "secrets": json.loads(request.secrets), "permission": request.permission}
    seen["current"] = {item.id: item.version for item in request.current_object_version}
    response.files.add(path="seen", mode=0o644, contents=json.dumps(seen, sort_keys=True).encode())
    return response


async def main() -> None:
    """Serve for ever."""
    (FOLDER / "value").write_text("one")
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        mount,
        request_deserializer=provider_pb2.MountRequest.FromString,
        response_serializer=provider_pb2.MountResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler("v1alpha1.CSIDriverProvider", {"Mount": handler})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port("unix:///provider/test.sock")
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
