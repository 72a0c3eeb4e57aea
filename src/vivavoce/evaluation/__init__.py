"""How good it is: metrics with intervals, and comparisons of systems on the same items."""
