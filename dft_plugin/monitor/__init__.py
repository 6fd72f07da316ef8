"""Monitoring of a run's tokens while it trains: logs, alarms, files, a page of curves."""
