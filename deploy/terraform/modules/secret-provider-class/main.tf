# The SecretProviderClass of a vault's secret, named like the vault; a template alone, no provider.
locals {
  manifest = templatefile("${path.module}/yaml_template/secretproviderclass-template.yaml", {
    ApiVersion    = var.ApiVersion
    KVName        = var.KVName
    UAIClientId   = var.UAIClientId
    SecretName    = var.SecretName
    SecretVersion = var.SecretVersion
    TenantId      = var.TenantId
  })
}
