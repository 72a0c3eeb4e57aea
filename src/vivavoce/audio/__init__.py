"""Waveforms in and out: files, resampling, features, voice activity, augmentation, test speech.

A waveform is float32, mono ``[S]`` (or a batch ``[B, S]``), nominally within -1 and 1, with its sample rate
in Hz beside it. Modules import NumPy at once and everything heavier (torch, soundfile, soxr) only where it is
used, except ``features``, which is torch throughout.
"""
