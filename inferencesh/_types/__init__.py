"""Between JSON and Python types: the service's models, and types of the user's."""
