variable "UAIName" {
  type        = string
  description = "The identity's name; the pod's label is this with -binding."
}

variable "KVName" {
  type        = string
  description = "The vault's name, which is the SecretProviderClass's."
}

variable "PodName" {
  type        = string
  default     = "nginx-secrets-store-inline"
  description = "The pod's name."
}

variable "Image" {
  type        = string
  default     = "nginx"
  description = "The container's image."
}
