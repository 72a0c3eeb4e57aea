"""Checks against reference numbers kept in folders; see discovery.py for how cases are found."""
