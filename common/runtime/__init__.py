"""Devices, processes, signals, memory and command lines: what a run needs from the machine."""
