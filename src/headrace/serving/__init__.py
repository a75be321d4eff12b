"""Who runs next: scheduler, controller and simulator in plain Python and numpy, and the loop that drives an engine."""
