"""Parts that every trainer needs for one of our losses; no framework is named."""
