# W13, W15: the pod's label is the binding's selector, and it mounts the vault's class.
variables {
  UAIName = "uaitest1"
  KVName  = "akv-dfitcfr-dev"
}

run "pod" {
  assert {
    condition     = yamldecode(output.podmanifest).metadata.labels.aadpodidbinding == "uaitest1-binding"
    error_message = "the label is not the binding's selector"
  }
  assert {
    condition     = yamldecode(output.podmanifest).spec.volumes[0].csi.volumeAttributes.secretProviderClass == var.KVName
    error_message = "the pod mounts another class"
  }
}
