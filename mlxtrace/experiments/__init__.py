"""What is asked: one file per experiment, and what experiments share; what they return is in `results`."""
