"""What language models and translators write."""
