variable "UAISuffix" {
  type        = string
  default     = "1"
  description = "The identity is called uai and this, in lower case."
}

variable "TargetLocation" {
  type        = string
  default     = "westeurope"
  description = "Azure region of the identity."
}

variable "TargetRG" {
  type        = string
  description = "Resource group of the identity."
}

variable "RBACScope" {
  type        = string
  description = "ARM id of what the identity works with."
}

variable "BuiltinRoleName" {
  type        = string
  description = "What the identity may do there, such as Reader."
}

variable "ResourceOwnerTag" {
  type    = string
  default = ""
}

variable "CountryTag" {
  type    = string
  default = ""
}

variable "CostCenterTag" {
  type    = string
  default = ""
}

variable "Company" {
  type    = string
  default = ""
}

variable "Project" {
  type    = string
  default = ""
}

variable "Environment" {
  type    = string
  default = ""
}
