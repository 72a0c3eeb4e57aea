"""What an evaluation says: read a run's folder, score it, put it in words, write page, JSON and model card."""
