"""Runs small image networks that come as .tflite files, on the processor, with no other package."""
