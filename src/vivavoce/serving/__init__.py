"""Models over HTTP, in the shapes that OpenAI's clients send and expect."""
