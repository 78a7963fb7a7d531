# The walkthrough's module call makes exactly that assignment.
mock_provider "azurerm" {}

variables {
  RBACScope       = "/subscriptions/s"
  BuiltinRoleName = "Managed Identity Operator"
  ObjectId        = "e5c1d2b8-7a1f-4a7d-b4d3-8a2d3c0f6b31"
}

run "one_assignment" {
  assert {
    condition     = output.RBACAssignmentScope == var.RBACScope && output.RBACAssignmentRoleName == var.BuiltinRoleName
    error_message = "scope or role differ from what was asked for"
  }
  assert {
    condition     = output.RBACAssignmentPrincipalId == var.ObjectId && output.RBACAssignmentFull.id == output.RBACAssignmentId
    error_message = "the principal differs from what was asked for"
  }
}
