output "FullUAIOutput" {
  value = azurerm_user_assigned_identity.terraUAI
}

output "Id" {
  value = azurerm_user_assigned_identity.terraUAI.id
}

output "Name" {
  value = azurerm_user_assigned_identity.terraUAI.name
}

output "Location" {
  value = azurerm_user_assigned_identity.terraUAI.location
}

output "RG" {
  value = azurerm_user_assigned_identity.terraUAI.resource_group_name
}

output "PrincipalId" {
  value = azurerm_user_assigned_identity.terraUAI.principal_id
}

output "ClientId" {
  value = azurerm_user_assigned_identity.terraUAI.client_id
}

output "RBACAssignmentFull" {
  value = module.RBACAssignment.RBACAssignmentFull
}

output "RBACAssignmentGuid" {
  value = module.RBACAssignment.RBACAssignmentGuid
}

output "RBACAssignmentScope" {
  value = module.RBACAssignment.RBACAssignmentScope
}

output "RBACAssignmentRoleName" {
  value = module.RBACAssignment.RBACAssignmentRoleName
}

output "RBACAssignmentPrincipalId" {
  value = module.RBACAssignment.RBACAssignmentPrincipalId
}

output "RBACAssignmentId" {
  value = module.RBACAssignment.RBACAssignmentId
}

output "RBACAssignmentPrincipalType" {
  value = module.RBACAssignment.RBACAssignmentPrincipalType
}

output "podidentitymanifest" {
  value = module.Manifests.podidentitymanifest
}

output "podidentitybindingmanifest" {
  value = module.Manifests.podidentitybindingmanifest
}
