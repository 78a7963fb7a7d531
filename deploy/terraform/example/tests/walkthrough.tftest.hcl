# The walkthrough's root module: its four assignments or the narrow ones, and the four manifests as files.
mock_provider "azurerm" {
  mock_data "azurerm_subscription" {
    defaults = {
      id = "/subscriptions/5a1c6b5e-3f57-4f0e-9c5e-0b7a8f1f2d01"
    }
  }
  mock_data "azurerm_kubernetes_cluster" {
    defaults = {
      id                  = "/subscriptions/5a1c6b5e-3f57-4f0e-9c5e-0b7a8f1f2d01/resourceGroups/rsg-dfitcfr-dev-aks/providers/Microsoft.ContainerService/managedClusters/aks-terraaksclus"
      node_resource_group = "rsg-dfitcfr-dev-aks-aksobjects"
      location            = "westeurope"
      identity = [{
        identity_ids = []
        principal_id = "f6d2e3c9-8b2a-4b8e-85e4-9b3e4d1a7c41"
        tenant_id    = "0c9d3a52-77e4-4b61-8f6d-2f1f0a6b7c11"
        type         = "SystemAssigned"
      }]
      kubelet_identity = [{
        client_id                 = "d4b0c1a7-6f0e-4f6c-a3c2-7f1c2b9e5a21"
        object_id                 = "e5c1d2b8-7a1f-4a7d-b4d3-8a2d3c0f6b31"
        user_assigned_identity_id = "/subscriptions/5a1c6b5e-3f57-4f0e-9c5e-0b7a8f1f2d01/resourceGroups/rsg-dfitcfr-dev-aks-aksobjects/providers/Microsoft.ManagedIdentity/userAssignedIdentities/aks-terraaksclus-agentpool"
      }]
    }
  }
  mock_data "azurerm_key_vault" {
    defaults = {
      id        = "/subscriptions/5a1c6b5e-3f57-4f0e-9c5e-0b7a8f1f2d01/resourceGroups/rsg-dfitcfr-dev-aks/providers/Microsoft.KeyVault/vaults/akv-dfitcfr-dev"
      tenant_id = "0c9d3a52-77e4-4b61-8f6d-2f1f0a6b7c11"
      vault_uri = "https://akv-dfitcfr-dev.vault.azure.net/"
    }
  }
  mock_data "azurerm_key_vault_secret" {
    defaults = {
      version = "3f8c1d2e4a5b6c7d8e9f0a1b2c3d4e5f"
    }
  }
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/5a1c6b5e-3f57-4f0e-9c5e-0b7a8f1f2d01/resourceGroups/rsg-dfitcfr-dev-aks/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uaitest1"
      client_id    = "a7e3f4da-9c3b-4c9f-96f5-0c4f5e2b8d51"
      principal_id = "b8f4a5eb-0d4c-4d0a-a7a6-1d5a6f3c9e61"
    }
  }
}

mock_provider "local" {}

variables {
  AKSName  = "aks-terraaksclus"
  AKSRG    = "rsg-dfitcfr-dev-aks"
  KVName   = "akv-dfitcfr-dev"
  KVRG     = "rsg-dfitcfr-dev-aks"
  TargetRG = "rsg-dfitcfr-dev-aks"
}

run "the_walkthroughs_four" {
  assert {
    condition = [
      module.AssignAKS_SAI_ManagedIdentityOps_To_Sub[0].RBACAssignmentPrincipalId,
      module.AssignAKS_SAI_VMContributor_To_Sub[0].RBACAssignmentPrincipalId,
      module.AssignAKS_KubeletUAI_ManagedIdentityOps_To_Sub[0].RBACAssignmentPrincipalId,
      module.AssignAKS_KubeletUAI_VMContributor_To_Sub[0].RBACAssignmentPrincipalId,
      ] == [
      output.KubeControlPlane_SAI_PrincipalId, output.KubeControlPlane_SAI_PrincipalId,
      output.KubeKubelet_UAI_ObjectId, output.KubeKubelet_UAI_ObjectId,
    ]
    error_message = "other principals than the walkthrough's"
  }
  assert {
    condition     = module.AssignAKS_KubeletUAI_VMContributor_To_Sub[0].RBACAssignmentScope == data.azurerm_subscription.current.id
    error_message = "not at the subscription"
  }
  assert {
    condition     = local_file.podidentitymanifest.filename == "../02_PodIdentity_Yaml/PodId/uaitest1.yaml"
    error_message = "W12: the file has another name"
  }
  assert {
    condition     = yamldecode(local_file.podmanifest.content).metadata.labels.aadpodidbinding == yamldecode(local_file.podidentitybindingmanifest.content).spec.selector
    error_message = "W13: the pod's label is not the binding's selector"
  }
  assert {
    condition     = azurerm_key_vault_access_policy.UAI1.object_id == output.UAI1_PrincipalId
    error_message = "the vault lets in somebody else"
  }
}

run "or_the_narrow_ones" {
  variables {
    LeastPrivilege = true
  }
  assert {
    condition     = length(module.AssignAKS_SAI_ManagedIdentityOps_To_Sub) == 0 && length(module.MicRoles[0].RBACAssignments) == 2
    error_message = "more roles than mic needs"
  }
}
