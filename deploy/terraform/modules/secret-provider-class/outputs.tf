output "secretproviderclassmanifest" {
  value = local.manifest
}
