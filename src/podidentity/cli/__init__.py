"""One file a subcommand: parses, builds settings, runs an app."""
