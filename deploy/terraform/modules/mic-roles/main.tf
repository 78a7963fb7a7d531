# What mic needs, at the narrowest scopes: the nodes' resource group, and each identity that pods use.
resource "azurerm_role_assignment" "Nodes" {
  scope                = var.NodeRGId
  role_definition_name = "Virtual Machine Contributor"
  principal_id         = var.ObjectId
}

resource "azurerm_role_assignment" "Identities" {
  for_each             = var.UAIIds
  scope                = each.value
  role_definition_name = "Managed Identity Operator"
  principal_id         = var.ObjectId
}
