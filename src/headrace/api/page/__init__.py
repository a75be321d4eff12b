"""The page: pictures on request, and what the engine does, live. Plain files, no build step."""
