# The walkthrough's root module, for a cluster and a vault that are there already: roles, identity, manifests as files.
terraform {
  required_version = ">= 1.6"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 3.0, < 5.0"
    }
    local = {
      source  = "hashicorp/local"
      version = ">= 2.0"
    }
  }
}

provider "azurerm" {
  features {}
}

data "azurerm_subscription" "current" {}

data "azurerm_kubernetes_cluster" "AKS1" {
  name                = var.AKSName
  resource_group_name = var.AKSRG
}

data "azurerm_key_vault" "KV" {
  name                = var.KVName
  resource_group_name = var.KVRG
}

data "azurerm_key_vault_secret" "SecretTest" {
  name         = var.SecretName
  key_vault_id = data.azurerm_key_vault.KV.id
}

locals {
  Kubelet      = data.azurerm_kubernetes_cluster.AKS1.kubelet_identity[0]
  ControlPlane = data.azurerm_kubernetes_cluster.AKS1.identity[0]
}

######################################################################
# Mapping AKS SAI to subscription - Managed Identity Operator

module "AssignAKS_SAI_ManagedIdentityOps_To_Sub" {
  count           = var.LeastPrivilege ? 0 : 1
  source          = "../modules/role-assignment"
  RBACScope       = data.azurerm_subscription.current.id
  BuiltinRoleName = "Managed Identity Operator"
  ObjectId        = local.ControlPlane.principal_id
}

######################################################################
# Mapping AKS SAI to VM Operator role

module "AssignAKS_SAI_VMContributor_To_Sub" {
  count           = var.LeastPrivilege ? 0 : 1
  source          = "../modules/role-assignment"
  RBACScope       = data.azurerm_subscription.current.id
  BuiltinRoleName = "Virtual Machine Contributor"
  ObjectId        = local.ControlPlane.principal_id
}

######################################################################
# Mapping AKS Kubelet UAI to subscription - Managed Identity Operator

module "AssignAKS_KubeletUAI_ManagedIdentityOps_To_Sub" {
  count           = var.LeastPrivilege ? 0 : 1
  source          = "../modules/role-assignment"
  RBACScope       = data.azurerm_subscription.current.id
  BuiltinRoleName = "Managed Identity Operator"
  ObjectId        = local.Kubelet.object_id
}

######################################################################
# Mapping AKS Kubelet UAI to VM Operator role

module "AssignAKS_KubeletUAI_VMContributor_To_Sub" {
  count           = var.LeastPrivilege ? 0 : 1
  source          = "../modules/role-assignment"
  RBACScope       = data.azurerm_subscription.current.id
  BuiltinRoleName = "Virtual Machine Contributor"
  ObjectId        = local.Kubelet.object_id
}

######################################################################
# Or the narrow ones: what mic needs and nothing else

module "MicRoles" {
  count    = var.LeastPrivilege ? 1 : 0
  source   = "../modules/mic-roles"
  ObjectId = local.Kubelet.object_id
  NodeRGId = "${data.azurerm_subscription.current.id}/resourceGroups/${data.azurerm_kubernetes_cluster.AKS1.node_resource_group}"
  UAIIds   = { UAI1 = module.UAI1.Id }
}

######################################################################
# The identity of the application, and its right to read the secret

module "UAI1" {
  source          = "../modules/identity"
  UAISuffix       = var.UAISuffix
  TargetRG        = var.TargetRG
  TargetLocation  = data.azurerm_kubernetes_cluster.AKS1.location
  RBACScope       = "${data.azurerm_subscription.current.id}/resourceGroups/${var.TargetRG}"
  BuiltinRoleName = "Reader"
}

resource "azurerm_key_vault_access_policy" "UAI1" {
  key_vault_id       = data.azurerm_key_vault.KV.id
  tenant_id          = data.azurerm_key_vault.KV.tenant_id
  object_id          = module.UAI1.PrincipalId
  secret_permissions = ["Get"]
}

######################################################################
# The manifests, as files for kubectl apply

module "SecretProviderClass" {
  source        = "../modules/secret-provider-class"
  KVName        = var.KVName
  UAIClientId   = module.UAI1.ClientId
  SecretName    = var.SecretName
  SecretVersion = data.azurerm_key_vault_secret.SecretTest.version
  TenantId      = data.azurerm_key_vault.KV.tenant_id
}

module "DemoPod" {
  source  = "../modules/demo-pod"
  UAIName = module.UAI1.Name
  KVName  = var.KVName
}

resource "local_file" "podidentitymanifest" {
  content  = module.UAI1.podidentitymanifest
  filename = "${var.ManifestFolder}/${module.UAI1.Name}.yaml"
}

resource "local_file" "podidentitybindingmanifest" {
  content  = module.UAI1.podidentitybindingmanifest
  filename = "${var.ManifestFolder}/${module.UAI1.Name}_Binding.yaml"
}

resource "local_file" "secretproviderclassmanifest" {
  content  = module.SecretProviderClass.secretproviderclassmanifest
  filename = "${var.ManifestFolder}/${module.UAI1.Name}_SecretProviderClass.yaml"
}

resource "local_file" "podmanifest" {
  content  = module.DemoPod.podmanifest
  filename = "${var.ManifestFolder}/${module.UAI1.Name}_Pod.yaml"
}
