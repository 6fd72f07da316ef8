"""The loss in ms-swift."""
