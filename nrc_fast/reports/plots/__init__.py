"""Figures of reports, histories, layers and error floors."""
