# W14: the class carries the walkthrough's parameters, the secret's version as text.
variables {
  KVName        = "akv-dfitcfr-dev"
  UAIClientId   = "a7e3f4da-9c3b-4c9f-96f5-0c4f5e2b8d51"
  SecretName    = "kvs-test01"
  SecretVersion = "12345678901234567890123456789012"
  TenantId      = "0c9d3a52-77e4-4b61-8f6d-2f1f0a6b7c11"
}

run "class" {
  assert {
    condition     = yamldecode(output.secretproviderclassmanifest).spec.parameters.usePodIdentity == "true"
    error_message = "not in pod identity mode"
  }
  assert {
    condition     = strcontains(yamldecode(output.secretproviderclassmanifest).spec.parameters.objects, "objectVersion: ${var.SecretVersion}")
    error_message = "the version is missing"
  }
}

run "a_vault_name_that_cannot_be" {
  command = plan
  variables {
    KVName = "a--b"
  }
  expect_failures = [var.KVName]
}
