"""Several processes with a model each, behind one address."""
