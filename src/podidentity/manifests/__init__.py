"""Rendering of manifests."""
