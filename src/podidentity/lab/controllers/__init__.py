"""Scheduler, workloads, garbage collection: API clients only."""
