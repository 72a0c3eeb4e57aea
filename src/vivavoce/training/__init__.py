"""What models are trained on and for: objectives, and the rows they read."""
