"""How many passes run: runs, plan, sweep, batch, the loop as reference, what is measured once per model."""
