"""The policies: sequential, dynamic, continuous, synergetic."""
