variable "AKSName" {
  type        = string
  description = "The cluster's name."
}

variable "AKSRG" {
  type        = string
  description = "The cluster's resource group."
}

variable "KVName" {
  type        = string
  description = "The vault's name."
}

variable "KVRG" {
  type        = string
  description = "The vault's resource group."
}

variable "SecretName" {
  type        = string
  default     = "kvs-test01"
  description = "The secret that the demo pod mounts."
}

variable "TargetRG" {
  type        = string
  description = "Resource group for the application's identity."
}

variable "UAISuffix" {
  type        = string
  default     = "test1"
  description = "The identity is called uai and this."
}

variable "LeastPrivilege" {
  type        = bool
  default     = false
  description = "True: the roles of `podidentity roles plan` instead of the walkthrough's four at the subscription."
}

variable "ManifestFolder" {
  type        = string
  default     = "../02_PodIdentity_Yaml/PodId"
  description = "Where the manifests are written."
}
