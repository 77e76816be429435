"""How one pass runs while it is read and edited: trace, activations, cache, names of parts."""
