variable "RBACScope" {
  type        = string
  description = "ARM id of what the role holds for: a subscription, a resource group, a resource."
}

variable "BuiltinRoleName" {
  type        = string
  description = "The role's name, such as Managed Identity Operator."
}

variable "ObjectId" {
  type        = string
  description = "Object id of who gets the role."
}
