"""Simulated Azure: ARM, Entra ID, IMDS, Key Vault. Imports nothing of the product."""
