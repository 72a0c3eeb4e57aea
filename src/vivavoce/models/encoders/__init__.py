"""Audio encoders: features [B, M, T] with true lengths -> states [B, F, D] with true frame counts."""
