"""What the model reads: tokens, subjects, the alignment of two prompts."""
