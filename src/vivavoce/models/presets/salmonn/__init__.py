"""SALMONN (Tang et al. 2023, bytedance): Vicuna that hears by Whisper and BEATs through a window-level Q-Former."""
