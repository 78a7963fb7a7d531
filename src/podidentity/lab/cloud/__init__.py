"""Simulated Azure: ARM, Entra ID, IMDS, Key Vault. Imports nothing of the product.

`serve(CloudConfig(...))` runs it in this process, `python -m podidentity.lab.cloud` in one of its own.
"""

from podidentity.lab.cloud.admin import Admin, AdminError
from podidentity.lab.cloud.client import AdminClient
from podidentity.lab.cloud.faults import ArmLimits, FaultRule, Faults, FaultsError
from podidentity.lab.cloud.seed import Seed, SeedError, load_seed, parse_seed
from podidentity.lab.cloud.server import CloudConfig, Running, serve

__all__ = [
    "Admin",
    "AdminClient",
    "AdminError",
    "ArmLimits",
    "CloudConfig",
    "FaultRule",
    "Faults",
    "FaultsError",
    "Running",
    "Seed",
    "SeedError",
    "load_seed",
    "parse_seed",
    "serve",
]
