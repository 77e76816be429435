"""What must hold on any model: what a law is, the model under test, the laws by subject, the registry of them all."""
