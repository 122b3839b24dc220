"""The loop that every method runs in: phases, optimisers, the budget meter, evaluation."""
