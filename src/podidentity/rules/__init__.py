"""Decisions that several components share: pure functions over API objects. No I/O."""
