"""What runs pipelines: blocks that survive a kill, processes, Ray, and what is put aside."""
