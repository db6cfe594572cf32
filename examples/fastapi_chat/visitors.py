"""What belongs to a visitor: a chat, by a cookie of the browser that began it; an uploaded file, by a signed token.

The service keeps no list of visitors, so that any worker can check both. Set CHAT_SECRET, a long random text, to the
same value for all workers; without it each process makes one of its own, and forgets its visitors when it ends.
"""

from __future__ import annotations

import os
import secrets
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from fastapi import HTTPException, Request, Response
from itsdangerous import BadData, Signer, URLSafeTimedSerializer

from inferencesh import FileRef

__all__ = ["check_chat", "give_chat", "read_file_token", "write_file_token"]

SECRET: Final = os.environ.get("CHAT_SECRET") or secrets.token_hex(32)
COOKIE: Final = "chat_key"
COOKIE_AGE: Final = 30 * 24 * 3600  # seconds
FILE_AGE: Final = 3600  # seconds between the upload of a file and the message that it goes with

chats: Final = Signer(SECRET, salt="chat", digest_method=sha256)
files: Final = URLSafeTimedSerializer(SECRET, salt="file")


def give_chat(chat_id: str, request: Request, response: Response) -> None:
    """Let the browser that sent the request, and no other one, use a chat."""
    response.set_cookie(
        COOKIE,
        chats.get_signature(chat_id).decode(),
        max_age=COOKIE_AGE,
        path=f"/chat/{quote(chat_id, safe='')}",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def check_chat(chat_id: str, request: Request) -> None:
    """Refuse a chat that is not the visitor's; nobody is told whether it exists."""
    if not chats.verify_signature(chat_id.encode(errors="replace"), request.cookies.get(COOKIE, "")):
        raise HTTPException(404, "There is no such chat, or it is somebody else's.")


def write_file_token(file: FileRef) -> str:
    """Return what the page sends with a message to attach a file; it cannot name a file that was not uploaded here."""
    return str(files.dumps([file.id, file.uri, file.filename, file.content_type, file.size]))


def read_file_token(token: str) -> FileRef:
    """Return the file of a token."""
    try:
        return FileRef(*files.loads(token, max_age=FILE_AGE))
    except BadData:
        raise HTTPException(422, "A file was uploaded too long ago; attach it again.") from None
