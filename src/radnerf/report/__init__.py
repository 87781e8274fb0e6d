"""Tables of many runs: python -m radnerf.report DIR [DIR ...]"""
