output "KubeName" {
  value = data.azurerm_kubernetes_cluster.AKS1.name
}

output "KubeId" {
  value = data.azurerm_kubernetes_cluster.AKS1.id
}

output "KubeRG" {
  value = data.azurerm_kubernetes_cluster.AKS1.resource_group_name
}

output "NodeRG" {
  value = data.azurerm_kubernetes_cluster.AKS1.node_resource_group
}

output "KubeControlPlane_SAI" {
  value     = data.azurerm_kubernetes_cluster.AKS1.identity
  sensitive = true
}

output "KubeControlPlane_SAI_PrincipalId" {
  value     = local.ControlPlane.principal_id
  sensitive = true
}

output "KubeControlPlane_SAI_TenantId" {
  value     = local.ControlPlane.tenant_id
  sensitive = true
}

output "KubeKubelet_UAI" {
  value     = data.azurerm_kubernetes_cluster.AKS1.kubelet_identity
  sensitive = true
}

output "KubeKubelet_UAI_ClientId" {
  value     = local.Kubelet.client_id
  sensitive = true
}

output "KubeKubelet_UAI_ObjectId" {
  value     = local.Kubelet.object_id
  sensitive = true
}

output "KubeKubelet_UAI_Id" {
  value     = local.Kubelet.user_assigned_identity_id
  sensitive = true
}

output "UAI1_Name" {
  value = module.UAI1.Name
}

output "UAI1_Id" {
  value = module.UAI1.Id
}

output "UAI1_ClientId" {
  value = module.UAI1.ClientId
}

output "UAI1_PrincipalId" {
  value = module.UAI1.PrincipalId
}

output "KV_Name" {
  value = data.azurerm_key_vault.KV.name
}

output "KV_TenantId" {
  value = data.azurerm_key_vault.KV.tenant_id
}

output "KV_URI" {
  value = data.azurerm_key_vault.KV.vault_uri
}

output "SecretTest_Name" {
  value = data.azurerm_key_vault_secret.SecretTest.name
}

output "SecretTest_Version" {
  value = data.azurerm_key_vault_secret.SecretTest.version
}
