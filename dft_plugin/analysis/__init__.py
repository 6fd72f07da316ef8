"""What a trained model does with its tokens."""
