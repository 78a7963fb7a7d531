variable "ObjectId" {
  type        = string
  description = "Object id of who mic signs in as: on AKS the kubelet's identity (KubeKubelet_UAI_ObjectId)."
}

variable "NodeRGId" {
  type        = string
  description = "ARM id of the nodes' resource group."
  validation {
    condition     = can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+$", var.NodeRGId))
    error_message = "NodeRGId must be /subscriptions/<id>/resourceGroups/<name>."
  }
}

variable "UAIIds" {
  type        = map(string)
  description = "ARM ids of the user-assigned identities that pods use, by a name of your choice."
}
