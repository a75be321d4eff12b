"""Parts of the serving benchmark: an open-loop load generator, a plain peer, and what HTTP costs."""
