# A user-assigned identity, its own right on what it works with, and the two manifests that declare it.
resource "azurerm_user_assigned_identity" "terraUAI" {
  name                = "uai${lower(var.UAISuffix)}"
  resource_group_name = var.TargetRG
  location            = var.TargetLocation
  tags = {
    ResourceOwner = var.ResourceOwnerTag
    Country       = var.CountryTag
    CostCenter    = var.CostCenterTag
    Company       = var.Company
    Project       = var.Project
    Environment   = var.Environment
  }
}

module "RBACAssignment" {
  source          = "../role-assignment"
  RBACScope       = var.RBACScope
  BuiltinRoleName = var.BuiltinRoleName
  ObjectId        = azurerm_user_assigned_identity.terraUAI.principal_id
}

module "Manifests" {
  source      = "../identity-manifests"
  UAIName     = azurerm_user_assigned_identity.terraUAI.name
  UAIId       = azurerm_user_assigned_identity.terraUAI.id
  UAIClientId = azurerm_user_assigned_identity.terraUAI.client_id
}
