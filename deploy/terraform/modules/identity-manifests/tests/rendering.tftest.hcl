# Valid YAML that says what was asked for; names that Kubernetes or YAML would not take are refused.
variables {
  UAIName     = "uaitest1"
  UAIId       = "/subscriptions/s/resourceGroups/rsg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uaitest1"
  UAIClientId = "a7e3f4da-9c3b-4c9f-96f5-0c4f5e2b8d51"
}

run "two_manifests" {
  assert {
    condition     = yamldecode(output.podidentitymanifest).spec == { type = 0, resourceID = var.UAIId, clientID = var.UAIClientId }
    error_message = "the AzureIdentity differs"
  }
  assert {
    condition     = yamldecode(output.podidentitybindingmanifest).spec == { azureIdentity = "uaitest1", selector = "uaitest1-binding" }
    error_message = "the AzureIdentityBinding differs"
  }
}

run "a_name_azure_allows_and_kubernetes_does_not" {
  command = plan
  variables {
    UAIName = "UAI_Test"
  }
  expect_failures = [var.UAIName]
}

run "a_name_that_is_a_number" {
  command = plan
  variables {
    UAIName = "1e3"
  }
  expect_failures = [var.UAIName]
}

run "an_id_of_something_else" {
  command = plan
  variables {
    UAIId = "/subscriptions/s"
  }
  expect_failures = [var.UAIId]
}
