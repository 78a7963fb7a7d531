output "Name" {
  value = var.UAIName
}

output "Id" {
  value = var.UAIId
}

output "ClientId" {
  value = var.UAIClientId
}

output "podidentitymanifest" {
  value = templatefile("${path.module}/yaml_template/podidentity-template.yaml", local.UAI)
}

output "podidentitybindingmanifest" {
  value = templatefile("${path.module}/yaml_template/podidentitybinding-template.yaml", local.UAI)
}
