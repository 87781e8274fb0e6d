"""What the machine gives: devices, memory, processes, their ranks, signals, programs."""
