"""Programs as users write them, for mypy and pyright in strict mode; nothing runs them."""
