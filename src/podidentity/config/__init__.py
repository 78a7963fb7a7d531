"""Command lines, environment and files become frozen settings (pure but for the one read of a named file)."""
