"""Our clip folders for other tools of the field: python -m radnerf.export CLIP OUT."""
