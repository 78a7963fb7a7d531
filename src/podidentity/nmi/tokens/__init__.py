"""Token sources: one protocol, composed."""
