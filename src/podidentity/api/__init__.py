"""The Kubernetes objects podidentity reads and writes: slim frozen structs, names and constants. No I/O."""
