"""One file per framework; what both share is in `patching`, `trainer_loss` and `monitor`."""
