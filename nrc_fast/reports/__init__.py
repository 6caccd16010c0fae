"""What was found, as text, JSON, pages and plots."""
