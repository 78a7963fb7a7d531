# One role of one principal at one scope, with the walkthrough's names.
resource "azurerm_role_assignment" "TerraAssignedBuiltin" {
  scope                = var.RBACScope
  role_definition_name = var.BuiltinRoleName
  principal_id         = var.ObjectId
}
