"""The command line, run in this process or in its own."""
