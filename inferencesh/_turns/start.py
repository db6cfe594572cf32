"""Starts a turn: sends a message, attaches to the turn of a chat, or takes over the turn of a worker that has died."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from inferencesh._http.api import chat_path
from inferencesh._http.events import EventConnection
from inferencesh._protocol.outcome import End, Outcome
from inferencesh._protocol.replies import has_turn
from inferencesh._protocol.run import goes_on
from inferencesh._protocol.turn import Turn
from inferencesh._types.codec import structure
from inferencesh.errors import (
    APIConnectionError,
    APIError,
    ClaimStoreError,
    ConfigurationError,
    InferenceError,
    LeaseHeldError,
    StreamError,
)
from inferencesh.models import FileRef, Message, MessageStatus, Role

from .conversation import Conversation
from .leases import MESSAGE, Lease, Leases, new_owner, reading_stored
from .request import TurnRequest

__all__ = ["TurnStarter", "stream_path"]

logger = logging.getLogger("inferencesh")


def stream_path(chat_id: str) -> str:
    """Return the path of the stream of a chat."""
    return chat_path(chat_id) + "/stream"


class TurnStarter:
    """Starts the turn of one request.

    Args:
        conversation: The conversation.
        request: The message and options of the caller.
        leases: The leases of the client.
        connection: The connection to the chat's stream, which is opened here.
        is_closed: Returns whether the caller has closed the stream in the meantime.

    Attributes:
        lease: The lease of the turn, if claims are shared; None if another worker has it, or before the start.
        snapshots: The snapshots in the response to the message.
    """

    def __init__(
        self,
        conversation: Conversation,
        request: TurnRequest,
        leases: Leases,
        connection: EventConnection,
        is_closed: Callable[[], bool],
    ) -> None:
        self.lease: Lease | None = None
        self.snapshots: list[Message] = []
        self._conversation = conversation
        self._api = conversation.api
        self._request = request
        self._leases = leases
        self._connection = connection
        self._is_closed = is_closed
        self._now = asyncio.get_running_loop().time
        self._owner = new_owner() if leases.shared or request.idempotency_key is not None else ""
        self._uploaded: Sequence[FileRef] = ()  # kept in case the turn is left before its message is sent
        self._posted = False  # whether the message may have reached the server
        self._sent: Turn | None = None  # kept in case the turn is left before it is claimed

    async def start(self) -> Turn:
        """Start the turn and return it; the connection is then open, unless the turn is over.

        Raises:
            APIError, APIConnectionError, UnreadableError: The turn could not be started.
            LeaseHeldError: The turn could not be taken over in time.
            ClaimStoreError: The claim store is unavailable, and a turn or a message needs a claim.
        """
        try:
            return await self._start()
        except BaseException as error:
            lease, self.lease = self.lease, None
            if lease is not None and isinstance(error, GeneratorExit):
                await lease.let_expire()
            elif lease is not None:
                self._leases.release_soon(lease)
            raise

    async def _start(self) -> Turn:
        request = self._request
        if request.text is not None and request.idempotency_key is not None:
            return await self._send_once(request.text, request.idempotency_key)
        if request.text is None and request.takes_over:
            return await self._take_over()
        if request.text is None:
            turn = await self._attach()
        else:
            turn = self._sent = self._sent or await self._send(request.text)
        await self.follow(turn)
        return turn

    async def follow(self, turn: Turn) -> bool:
        """Claim a turn that this process drives in any case; log a warning if the store is unavailable.

        Returns:
            Whether no other worker is known to have the turn.
        """
        if turn.outcome is not None:
            return True
        try:
            return await self._claim_turn(turn, self._now())
        except InferenceError as error:  # the store is unavailable, or now refuses access
            logger.warning("%s; the turn continues without a lease, so other workers do not know of it", error)
            return True

    async def _claim_turn(self, turn: Turn, until: float | None) -> bool:
        """Claim a turn once no other worker has it.

        Args:
            turn: The turn.
            until: The loop time at which to give up, or None.

        Returns:
            Whether the turn is claimed, or needs no claim.
        """
        if not self._leases.shared:
            return True
        key = f"{turn.chat_id}:turn:{turn.run.user_message_id}"
        claim = await self._leases.wait(key, self._owner, "turn", until=until)
        if isinstance(claim, Lease):
            self.lease = claim
        return isinstance(claim, Lease)

    async def _release_turn(self) -> None:
        """Release the turn's lease."""
        lease, self.lease = self.lease, None
        if lease is not None:
            await lease.release()

    # -- sending ---------------------------------------------------------------------------------------------------

    async def _send(self, text: str, lease: Lease | None = None) -> Turn:
        """Upload the files, connect to the stream of an existing chat, and post the message.

        The stream is opened first so that no part of the reply is missed.

        Args:
            text: The message.
            lease: The claim on sending it, if it has an idempotency key.

        Raises:
            _ClaimLostError: Another worker has the claim now; the message was not sent.
        """
        conversation = self._conversation
        if self._request.files and not self._uploaded:
            self._uploaded = await self._conversation.upload(self._request.files)
            if self._is_closed():
                raise StreamError("the stream was closed while files were uploaded; the message was not sent")
        async with conversation.sending() as is_current:
            turn = await self._post(text, lease)
            if is_current():
                conversation.begin_turn(turn)
        return turn

    async def _post(self, text: str, lease: Lease | None) -> Turn:
        turn = self._conversation.next_turn()
        body = self._conversation.message_body(text, self._request.output, self._uploaded)
        if turn.chat_id is not None:
            await self._connection.open(stream_path(turn.chat_id))
        if lease is not None:
            await self._record_sending(turn, lease)
        elif self._posted:
            raise StreamError(
                "sending this message was interrupted, and it is not known whether it arrived; look at the chat before "
                "you send it again"
            )
        else:
            self._posted = True
        answer = await (self._api.run(body) if lease is None else self._run_while_held(body, lease))
        user, assistant = (
            structure(answer[name], Message) if answer.get(name) is not None else None
            for name in ("user_message", "assistant_message")
        )
        chat_id = turn.chat_id or (assistant.chat_id if assistant is not None else None)
        if user is None and chat_id and self._owner:  # the keys of claims contain its id
            user = await self._look_up(chat_id, text)
        snapshot = turn.begin(user, assistant, self._now())
        if turn.chat_id is None:
            raise StreamError("the response to the message contains no chat id, so its reply cannot be found")
        if snapshot is not None:
            self.snapshots.append(snapshot)
        return turn

    async def _run_while_held(self, body: dict[str, Any], lease: Lease) -> Mapping[str, Any]:
        """Post a claimed message, unless the lease may expire before its bytes are written.

        This can happen because the process is suspended, or waits for a connection, for longer than the lease.

        Raises:
            _ClaimLostError: The lease may have expired; the message was not sent.
        """
        withheld = False

        def may_be_sent() -> bool:
            nonlocal withheld
            withheld = not lease.safe_to_send
            self._posted = self._posted or not withheld
            return not withheld

        try:
            return await self._api.run(body, may_be_sent)
        except APIConnectionError:
            if withheld:
                raise _ClaimLostError from None
            raise

    async def _look_up(self, chat_id: str, text: str) -> Message | None:
        """Find the message that was just sent and that the response left out; return None if it is not found."""
        try:
            newest = await self._newest(chat_id)
        except InferenceError as error:  # the message was sent in any case
            logger.warning(
                "chat %s: the id of the message is not known (%s), so other workers cannot identify its turn",
                chat_id,
                error,
            )
            return None
        return max(_with_text(newest, text), key=lambda message: message.order, default=None)

    async def _newest(self, chat_id: str) -> list[Mapping[str, Any]]:
        """Read the newest page of a chat's messages."""
        return await self._api.read_messages(await self._api.read_chat(chat_id), chat_id, lambda _: True)

    # -- sending at most once --------------------------------------------------------------------------------------

    async def _send_once(self, text: str, key: str) -> Turn:
        """Send a message unless it was sent with this key before; otherwise attach to its turn.

        A message that was withdrawn before its turn started is sent again, with a claim key of its own.
        """
        withdrawn = 0
        while True:
            name = f"message-{withdrawn}:{key}" if withdrawn else f"message:{key}"
            claim = await self._leases.wait(name, self._owner, MESSAGE)
            try:
                if isinstance(claim, Lease):
                    return await self._send_claimed(text, claim)
                return await self._attach_to_sent(_Sent.from_json(claim.result or ""))
            except _ClaimLostError:  # this process was suspended for longer than the lease
                self._connection.close()
            except _WithdrawnError:
                withdrawn += 1

    async def _send_claimed(self, text: str, lease: Lease) -> Turn:
        """Send a claimed message, unless the previous owner has sent it."""
        in_doubt = bool(lease.result)  # whether the previous owner may have sent it
        sent, turn = None, None
        try:
            sent = await self._find_sent(text, lease.result) if lease.result else None
            if sent is None:
                in_doubt = False
                turn = await self._send(text, lease)
                sent = _Sent(turn.chat_id or "", turn.run.user_message_id)
                if not await self.follow(turn):  # this process was suspended after it had sent the message
                    self._connection.close()
                    self.snapshots.clear()
                    turn = None
        except GeneratorExit:
            await lease.let_expire()
            raise
        except BaseException as error:
            if sent is not None:
                await lease.complete(sent.to_json())
            elif not in_doubt and (not self._posted or _not_sent(error)):
                await lease.cancel()
            else:
                await lease.release()
            raise
        await lease.complete(sent.to_json())
        return turn or await self._attach_to_sent(sent)

    async def _record_sending(self, turn: Turn, lease: Lease) -> None:
        """Record that a message is about to be sent, and after which message of the chat.

        Raises:
            _ClaimLostError: Another worker has the claim.
            ClaimStoreError: The store is unavailable, and ``on_claim_store_lost`` is "fail".
        """
        chat_id, after = turn.chat_id, 0
        if chat_id is not None:  # the local copy of the chat may be outdated
            after = max(map(_order, await self._newest(chat_id)), default=0)
        try:
            held = await lease.record(json.dumps({"chat_id": chat_id, "after": after}))
        except ClaimStoreError as error:
            self._leases.fall_back(error)
            held = True
        if not held:
            raise _ClaimLostError

    async def _find_sent(self, text: str, recorded: str) -> _Sent | None:
        """Find the message in the chat, in case a previous owner sent it before it died or lost its connection.

        Args:
            text: The message.
            recorded: The value that the previous owner recorded before it sent the message.

        Raises:
            StreamError: The message would have started a chat, so it is not known whether it was sent.
            ClaimStoreError: The recorded value is malformed.
        """
        with reading_stored():
            noted = json.loads(recorded)
            chat_id, after = noted["chat_id"], noted["after"]
            if not isinstance(chat_id, str | None) or not isinstance(after, int):
                raise TypeError(f"{chat_id!r} and {after!r} are not a chat id and the order of a message")
        if chat_id is None:
            raise StreamError(
                "an earlier attempt to send this message was interrupted, and it cannot be known whether it started a "
                "chat: look at the chats of the account, and if it did not, send the message with a new idempotency_key"
            )
        chat = await self._api.read_chat(chat_id)
        read = await self._api.read_messages(chat, chat_id, lambda message: _order(message) <= after)
        found = [message for message in _with_text(read, text) if message.order > after]
        return _Sent(chat_id, min(found, key=lambda message: message.order).id) if found else None

    # -- attaching -------------------------------------------------------------------------------------------------

    async def _attach(self) -> Turn:
        """Attach to the running or paused turn of the chat; if there is none, return a finished turn."""
        conversation = self._conversation
        turn = conversation.turn
        if turn is not None and not turn.driven and turn.is_current:
            await self._connection.open(stream_path(conversation.require_chat()))
            turn.resume(self._now())
            return turn
        turn = await self._latest()
        if turn.outcome is None:
            await self._open(turn)
        return turn

    async def _take_over(self) -> Turn:
        """Take over the chat's turn once no other worker has it."""
        turn = await self._claim_when_free(self._latest, self._request.wait)
        if turn.outcome is None:
            await self._open(turn)
        return turn

    async def _claim_when_free(self, read: Callable[[], Awaitable[Turn]], wait: float | None = None) -> Turn:
        """Return a turn once it is claimed or over.

        Args:
            read: Reads the turn. It is called again if another worker had the turn, because the chat may have changed.
            wait: Seconds to wait for the claim, or None.

        Raises:
            LeaseHeldError: Another worker still has the turn after that time.
        """
        until = None if wait is None else self._now() + wait
        while True:
            turn = await read()
            if turn.outcome is not None or await self._claim_turn(turn, self._now()):
                return turn
            if not await self._claim_turn(turn, until):
                raise LeaseHeldError(
                    f"another worker still has the lease of the turn after {wait or 0:g} seconds; call take_over again "
                    "if that worker fails"
                )
            await self._release_turn()

    async def _attach_to_sent(self, sent: _Sent) -> Turn:
        """Attach to the turn of a message that was already sent, once no other worker has the turn."""
        conversation = self._conversation
        if conversation.chat_id not in (None, sent.chat_id):
            raise ConfigurationError(
                f"a message with this idempotency_key was sent to another chat, {sent.chat_id}: give each message a "
                "key of its own"
            )
        turn = await self._claim_when_free(functools.partial(self._turn_of, sent))
        conversation.begin_turn(turn)
        if turn.outcome is None:
            await self._connection.open(stream_path(sent.chat_id))
            turn.wants_reread = True
        return turn

    async def _latest(self) -> Turn:
        """Read the chat's latest turn, which has ended if the chat is neither running nor paused."""
        chat_id = self._conversation.require_chat()
        chat = await self._api.read_chat(chat_id)
        messages = await self._api.read_messages(chat, chat_id, lambda message: message.get("role") == Role.USER)
        turn = Turn.latest(chat_id, messages, self._now())
        if not goes_on(chat) and not self._conversation.has_pending_updates:
            turn.outcome = Outcome(End.FINISHED, _last_reply(messages))
        return turn

    async def _turn_of(self, sent: _Sent) -> Turn:
        """Read the turn of a message, which has ended if it is not the latest.

        Raises:
            _WithdrawnError: The message was withdrawn before its turn started.
            StreamError: The message is no longer in the chat.
        """
        chat = await self._api.read_chat(sent.chat_id)
        name, value = ("id", sent.message_id) if sent.message_id else ("role", Role.USER)
        read = await self._api.read_messages(chat, sent.chat_id, lambda message: message.get(name) == value)
        user = next((message for message in _users(read) if message.id == sent.message_id), None)
        if user is None and sent.message_id:
            raise StreamError(
                f"the message with this idempotency_key, {sent.message_id}, is no longer in the chat {sent.chat_id}, "
                "so its reply cannot be found; to send the message again, use another key"
            )
        if user is None:  # its id is not known
            return Turn.latest(sent.chat_id, read, self._now())
        if user.status == MessageStatus.CANCELLED:
            raise _WithdrawnError
        turn = Turn(sent.chat_id)
        turn.begin(user, None, self._now())
        following = [message.order for message in _users(read) if message.order > user.order and has_turn(message)]
        if not following:
            turn.run.settle()  # the state of the chat is that of this turn, because there is no later one
            return turn
        reply = _last_reply(item for item in read if user.order < _order(item) < min(following))
        turn.last_delivered = reply
        failed = reply is not None and reply.status == MessageStatus.FAILED
        turn.outcome = Outcome(End.FAILED if failed else End.FINISHED, reply, "the run has failed" if failed else "")
        return turn

    async def _open(self, turn: Turn) -> None:
        """Connect to the stream of a turn that was found in the chat."""
        await self._connection.open(stream_path(self._conversation.require_chat()))
        turn.wants_reread = True
        self._conversation.attach_turn(turn)


@attrs.frozen
class _Sent:
    """The chat and the id of a message that was sent; the id is "" if the service did not return it."""

    chat_id: str
    message_id: str

    def to_json(self) -> str:
        """Return it as JSON, for the claim store."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> _Sent:
        """Parse the JSON of ``to_json``.

        Raises:
            ClaimStoreError: It is malformed.
        """
        with reading_stored():
            return cls(**json.loads(text))


class _WithdrawnError(Exception):
    """The message was withdrawn before its turn started."""


class _ClaimLostError(Exception):
    """Another worker has the claim on sending the message."""


def _not_sent(error: BaseException) -> bool:
    """Whether an error means that a message has not reached the service, or that the service refused it."""
    if isinstance(error, APIError):
        return error.status_code < 500 or error.status_code == 503
    return isinstance(error, _ClaimLostError) or (isinstance(error, APIConnectionError) and not error.sent)


def _order(message: Mapping[str, Any]) -> int:
    return structure(message, Message).order


def _users(messages: Iterable[Mapping[str, Any]]) -> list[Message]:
    read = (structure(data, Message) for data in messages)
    return [message for message in read if message.role == Role.USER]


def _with_text(messages: Iterable[Mapping[str, Any]], text: str) -> list[Message]:
    return [message for message in _users(messages) if message.text.strip() == text.strip()]


def _last_reply(messages: Iterable[Mapping[str, Any]]) -> Message | None:
    replies = [m for m in (structure(data, Message) for data in messages) if m.role == Role.ASSISTANT]
    return max(replies, key=lambda message: message.order, default=None)
