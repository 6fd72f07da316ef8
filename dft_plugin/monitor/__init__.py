"""What a run says of its tokens while it trains: logs, alarms, files, a page of curves."""
