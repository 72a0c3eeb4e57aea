"""Checks of a set before it is trained on: rows one by one, and the set as a whole.

Most mistakes in speech data raise no error: a model trains on them and is bad. Each is a kind in ``kinds.KINDS``.
"""
