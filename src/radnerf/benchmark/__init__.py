"""How fast operators, training and rendering are here: python -m radnerf.benchmark."""
