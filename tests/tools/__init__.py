"""Tools and their builders."""
