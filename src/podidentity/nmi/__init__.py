"""The node agent: gives each pod the token of its own identity, and no other."""
