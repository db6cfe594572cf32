"""What the embedded runtime keeps on disk."""
