"""Codecs are trained here: `vivavoce train` of a recipe with ``kind: codec``."""
