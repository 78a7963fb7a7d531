"""Explaining what is there (grows in a later release)."""
