"""How data becomes noise, and what a network learns of it: one file a process."""
