"""Parts of the scheduler benchmark."""
