"""The playground: a page on which people try agents of the embedded runtime, and the server's part of it."""
