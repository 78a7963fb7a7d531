"""Azure Resource Manager: compute identities, managed identities, role assignments, resource groups, vaults."""
