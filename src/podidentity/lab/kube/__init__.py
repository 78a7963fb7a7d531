"""Embedded Kubernetes API server. Imports nothing of the product.

``async with serve(ApiConfig()) as running`` starts one on loopback in this process.
"""

from podidentity.lab.kube.config import ApiConfig, Kubelets, Tls
from podidentity.lab.kube.serving import Running, serve
from podidentity.lab.kube.users import User

__all__ = ["ApiConfig", "Kubelets", "Running", "Tls", "User", "serve"]
