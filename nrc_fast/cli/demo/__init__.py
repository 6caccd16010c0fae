"""The demonstration on a recorded data set: training, settings, and what is printed."""
