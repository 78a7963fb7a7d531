"""Guard and redirect: how pods reach the agent and nothing else."""
