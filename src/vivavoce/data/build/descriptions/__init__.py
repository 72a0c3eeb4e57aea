"""How recordings sound, measured and told."""
