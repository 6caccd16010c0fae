"""One read of the rows, and what it adds up."""
