# The walkthrough's outputs: names, the identity's own role, the rendered manifests.
mock_provider "azurerm" {
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/s/resourceGroups/rsg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uaitest1"
      client_id    = "a7e3f4da-9c3b-4c9f-96f5-0c4f5e2b8d51"
      principal_id = "b8f4a5eb-0d4c-4d0a-a7a6-1d5a6f3c9e61"
    }
  }
}

variables {
  UAISuffix       = "Test1"
  TargetRG        = "rsg"
  RBACScope       = "/subscriptions/s/resourceGroups/rsg"
  BuiltinRoleName = "Reader"
}

run "identity" {
  assert {
    condition     = output.Name == "uaitest1" && output.RG == "rsg" && output.Location == "westeurope"
    error_message = "name, group or region differ"
  }
  assert {
    condition     = output.RBACAssignmentPrincipalId == output.PrincipalId && output.RBACAssignmentRoleName == "Reader"
    error_message = "the role is not the identity's own"
  }
  assert {
    condition     = yamldecode(output.podidentitymanifest).spec.clientID == output.ClientId
    error_message = "the manifest is not the identity's"
  }
  assert {
    condition     = yamldecode(output.podidentitybindingmanifest).spec.selector == "uaitest1-binding"
    error_message = "the binding is not the identity's"
  }
  assert {
    condition     = output.FullUAIOutput.client_id == output.ClientId
    error_message = "the whole resource is another one"
  }
}
