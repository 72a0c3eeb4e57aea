"""Ultravox: a Whisper encoder and a small projector beside a language model; its published files, both ways."""
