"""Azure AD (Entra ID) identities for Kubernetes pods, with no password anywhere."""

__version__ = "0.1.0"
