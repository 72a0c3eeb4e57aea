"""Words everyone shares: errors, registry tables, typed configs, units. Imports no other room and no torch."""
