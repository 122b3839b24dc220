"""Results: the Arrow schema, the store, MLflow."""
