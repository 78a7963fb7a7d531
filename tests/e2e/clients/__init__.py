"""Unmodified Azure clients as programs that run in pods of the lab, and what the tests make of their reports.

Each program takes ``{"resource", "vault", "stop", "ways": {way: [by, id]}}`` as JSON: ``by`` is client_id, object_id,
resource_id, nothing, or default. All ways ask at the same time, once, or, when ``stop`` names a file, again and again
until it is there, each time as a program that has just started. An ask is a JSON line: way, outcome (``token`` or what
was raised), begun (the machine's monotonic clock), seconds, words (the token, or what was said).
"""
