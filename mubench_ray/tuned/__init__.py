"""Settings of methods that a search found: one JSON file a task, and a user's own by their path; how they are found for a trial, and when they are stale."""
