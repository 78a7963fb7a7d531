output "podmanifest" {
  value = local.manifest
}
