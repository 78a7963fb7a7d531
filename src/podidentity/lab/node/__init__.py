"""Kubelet and namespaces: runs pods as processes."""
