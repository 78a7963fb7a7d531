"""Decisions that several parts share. Pure."""
