"""One model, many sequences: caches that grow, forwards that join what waits, and the thread that runs them."""
