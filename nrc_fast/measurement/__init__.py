"""What users call on features: each metric alone, all of them, and statistics that grow."""
