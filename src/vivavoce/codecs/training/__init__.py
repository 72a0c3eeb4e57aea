"""What a codec learns by: losses, discriminators, codebooks that start from data, and codecs in a form that trains.

The loop is in `vivavoce.training.codec`.
"""
