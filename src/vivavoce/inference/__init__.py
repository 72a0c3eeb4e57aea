"""Generation: sampling, token loops with a cache, streams of text and audio, the assistant."""
