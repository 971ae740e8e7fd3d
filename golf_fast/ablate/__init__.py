"""What each mechanism of a recipe is worth: the same run without it, on the same seeds and the same tokens."""
