"""The engine's process: the only part of the service that knows networks."""
