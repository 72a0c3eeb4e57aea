"""SNAC, the multi-scale codec of most open speech LMs: published checkpoints, exact streaming."""

from vivavoce.codecs.snac.codec import SNACCodec
from vivavoce.codecs.snac.config import PUBLISHED, SNACConfig
from vivavoce.codecs.snac.noise import GivenNoise, KeyedNoise, NoiseSource

__all__ = ["PUBLISHED", "GivenNoise", "KeyedNoise", "NoiseSource", "SNACCodec", "SNACConfig"]
