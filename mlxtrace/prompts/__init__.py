"""Many prompts: facts, traced into a folder, resumed, averaged."""
