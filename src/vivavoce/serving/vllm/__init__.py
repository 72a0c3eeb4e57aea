"""vLLM makes the tokens, we keep the sound: codecs, layouts and OpenAI's audio shapes in front of its completions."""
