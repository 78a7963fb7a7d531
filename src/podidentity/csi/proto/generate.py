"""Regenerate the modules next to the .proto files: ``python -m podidentity.csi.proto.generate`` (needs grpcio-tools).

Messages only (``*_pb2.py`` and their types, ``*_pb2.pyi``); the services are a few lines in ``csi.server``.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE_ROOT = HERE.parents[2]
HEADER = "# Generated from {proto} by `python -m podidentity.csi.proto.generate`; do not edit.\n"


def main() -> int:
    """Run protoc on every .proto file of this folder; its exit code."""
    from grpc_tools import protoc  # type: ignore[import-untyped]  # noqa: PLC0415 - a development tool

    for proto in sorted(HERE.glob("*.proto")):
        name = proto.relative_to(SOURCE_ROOT).as_posix()
        arguments = ["protoc", f"-I{SOURCE_ROOT}", f"--python_out={SOURCE_ROOT}", f"--pyi_out={SOURCE_ROOT}", name]
        if code := int(protoc.main(arguments)):
            return code
        for suffix in (".py", ".pyi"):
            made = proto.with_name(f"{proto.stem}_pb2{suffix}")
            made.write_text(HEADER.format(proto=proto.name) + made.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
