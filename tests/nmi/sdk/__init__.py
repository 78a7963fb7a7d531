"""The SDKs themselves, as programs that tests start."""
