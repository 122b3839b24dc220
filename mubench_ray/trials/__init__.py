"""What a trial is made of: its data, originals and retrains, unlearning and its row. Plain Python, no Ray."""
