# The two manifests of an identity; templates alone, no provider. `podidentity manifests render` gives the same bytes.
locals {
  UAI = {
    UAIName     = var.UAIName
    UAIId       = var.UAIId
    UAIClientId = var.UAIClientId
  }
}
