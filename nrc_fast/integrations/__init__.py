"""Other libraries' ways to hold data and to train; each module needs its library, and none is imported before use."""
