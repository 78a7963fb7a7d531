"""The Kubernetes client: one send, reflectors, stores, leadership, events."""
