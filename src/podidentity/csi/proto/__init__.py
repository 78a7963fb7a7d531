"""Generated gRPC code of the Secrets Store provider API."""
