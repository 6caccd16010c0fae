"""Figures of reports, histories, layers and forecasts."""
