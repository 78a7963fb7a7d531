"""Azure: clouds, credentials, ARM, IMDS, Entra ID, Key Vault."""
