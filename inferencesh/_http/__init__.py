"""Requests, streams and uploads over HTTP; nothing else imports aiohttp."""
