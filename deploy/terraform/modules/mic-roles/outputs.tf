output "RBACAssignments" {
  description = "What was given: role and scope."
  value = [
    for one in concat([azurerm_role_assignment.Nodes], values(azurerm_role_assignment.Identities)) :
    { role = one.role_definition_name, scope = one.scope }
  ]
}
