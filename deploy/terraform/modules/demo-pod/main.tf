# A pod that mounts the secret, with the label of the binding and no password; a template alone, no provider.
locals {
  manifest = templatefile("${path.module}/yaml_template/pod-template.yaml", {
    PodName = var.PodName
    Image   = var.Image
    UAIName = var.UAIName
    KVName  = var.KVName
  })
}
