"""What is said of losses beyond their meaning: lints."""
