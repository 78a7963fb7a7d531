"""The Azure provider of the Secrets Store CSI driver."""
