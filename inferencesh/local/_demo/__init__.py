"""The model that the embedded runtime answers with by default."""
