"""What is asked: one file per experiment, with its result class, and what experiments share."""
