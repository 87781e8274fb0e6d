"""Head tracking with the Basel Face Model, which the user brings: `tracker=bfm`."""
