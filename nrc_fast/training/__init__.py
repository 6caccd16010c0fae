"""While a model trains: layers that are watched, monitors, layers one by one, checkpoints."""
