"""Embedded Kubernetes API server. Imports nothing of the product."""
