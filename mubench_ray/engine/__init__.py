"""The engine: plan, artifacts, trials, and Ray."""
