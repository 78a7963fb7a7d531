variable "UAIName" {
  type        = string
  description = "The identity's name, in Kubernetes too; with -binding it is the label of the pods."
  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", var.UAIName)) && length(var.UAIName) <= 55
    error_message = "UAIName must be lower-case letters, digits, \"-\" and \".\", at most 55: pods carry it with -binding as a label."
  }
  validation {
    condition     = !can(regex("^([0-9][0-9a-fx_.]*|true|false|yes|no|on|off|null|y|n)$", var.UAIName))
    error_message = "YAML takes UAIName for a number or a word of its own; choose another name."
  }
}

variable "UAIId" {
  type        = string
  description = "Its ARM id."
  validation {
    condition     = can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.ManagedIdentity/userAssignedIdentities/[^/]+$", var.UAIId))
    error_message = "UAIId must be the ARM id of a user-assigned identity."
  }
}

variable "UAIClientId" {
  type        = string
  description = "Its client id."
  validation {
    condition     = can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.UAIClientId))
    error_message = "UAIClientId must be a UUID."
  }
}
