"""Programs that measure; what they find is printed, and their short forms are tests."""
