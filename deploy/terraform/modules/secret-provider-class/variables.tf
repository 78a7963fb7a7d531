variable "KVName" {
  type        = string
  description = "The vault's name."
  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9]){2,23}$", var.KVName)) && length(var.KVName) <= 24
    error_message = "KVName must be 3 to 24 lower-case letters, digits and single dashes, a letter first."
  }
}

variable "UAIClientId" {
  type        = string
  description = "Client id of the identity; ignored by the provider in this mode."
}

variable "SecretName" {
  type        = string
  description = "The secret's name in the vault, and of the file in the pod."
  validation {
    condition     = can(regex("^[0-9A-Za-z-]{1,127}$", var.SecretName))
    error_message = "SecretName must be 1 to 127 letters, digits and dashes."
  }
}

variable "SecretVersion" {
  type        = string
  default     = ""
  description = "A version of it; empty for the latest."
}

variable "TenantId" {
  type        = string
  description = "The vault's tenant."
}

variable "ApiVersion" {
  type        = string
  default     = "v1alpha1"
  description = "v1alpha1 as in the walkthrough, v1 for drivers of today."
  validation {
    condition     = contains(["v1", "v1alpha1"], var.ApiVersion)
    error_message = "ApiVersion must be v1 or v1alpha1."
  }
}
