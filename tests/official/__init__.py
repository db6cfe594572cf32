"""The official SDKs for Python and JavaScript against plain ``inferencesh serve``; ``make test-clients`` runs these."""
