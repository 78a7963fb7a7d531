"""The contract of the embedded API server with the real one: the same tests of both."""
