"""The engine: the plan of a suite, in which order it is run, and Ray."""
