# Least first: nothing is given at the subscription or at the identities' resource group.
mock_provider "azurerm" {}

variables {
  ObjectId = "e5c1d2b8-7a1f-4a7d-b4d3-8a2d3c0f6b31"
  NodeRGId = "/subscriptions/s/resourceGroups/nodes"
  UAIIds = {
    one = "/subscriptions/s/resourceGroups/apps/providers/Microsoft.ManagedIdentity/userAssignedIdentities/one"
    two = "/subscriptions/s/resourceGroups/apps/providers/Microsoft.ManagedIdentity/userAssignedIdentities/two"
  }
}

run "nodes_and_each_identity" {
  assert {
    condition = toset([for one in output.RBACAssignments : "${one.role} ${one.scope}"]) == toset([
      "Virtual Machine Contributor ${var.NodeRGId}",
      "Managed Identity Operator ${var.UAIIds.one}",
      "Managed Identity Operator ${var.UAIIds.two}",
    ])
    error_message = "other roles or scopes than those of `podidentity roles plan`"
  }
}

run "a_subscription_is_no_group" {
  command = plan
  variables {
    NodeRGId = "/subscriptions/s"
  }
  expect_failures = [var.NodeRGId]
}
