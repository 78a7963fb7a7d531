"""The controller: watches pods, attaches identities to the VMs and scale sets under them."""
