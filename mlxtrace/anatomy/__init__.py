"""Where things are in a model: the probe pass, what it found, the names of sites, the taps that reach them."""
