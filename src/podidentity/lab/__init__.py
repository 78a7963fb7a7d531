"""A whole cluster on one Linux machine: embedded Kubernetes API, simulated Azure, real processes in real namespaces."""
