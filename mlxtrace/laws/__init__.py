"""What must hold on any model: the registry, the model under test, the laws by subject."""
