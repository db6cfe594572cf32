"""Begins a turn: sends its message, attaches to a turn of the chat, or takes one over from a worker that has died."""

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
from .leases import MESSAGE, Lease, Leases, new_owner, reading_kept
from .request import TurnRequest

__all__ = ["TurnStarter", "stream_path"]

logger = logging.getLogger("inferencesh")


def stream_path(chat_id: str) -> str:
    """Return the path of the stream of a chat."""
    return chat_path(chat_id) + "/stream"


class TurnStarter:
    """Begins the turn of one request.

    Args:
        conversation: The conversation.
        request: What the caller asks of the turn.
        leases: The claims of the client.
        connection: The connection that is opened to the chat's stream.
        is_closed: Returns whether the caller has left the turn meanwhile.

    Attributes:
        lease: The lease of the turn, where claims are shared; None if another worker has it, or before the beginning.
        snapshots: What the response to the message has brought of the reply.
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
        self._uploaded: Sequence[FileRef] = ()  # kept for a turn that is left before its message is sent
        self._posted = False  # whether the message may have reached the server
        self._sent: Turn | None = None  # kept for a turn that is left before it is claimed

    async def start(self) -> Turn:
        """Begin the turn; the connection is open unless the turn is over.

        Raises:
            APIError, APIConnectionError, UnreadableError: It could not be begun.
            LeaseHeldError: It could not be taken over in time.
            ClaimStoreError: The store of claims is lost, and a turn or a message has to be claimed.
        """
        try:
            return await self._start()
        except BaseException as error:
            lease, self.lease = self.lease, None
            if lease is not None and isinstance(error, GeneratorExit):
                await lease.abandon()
            elif lease is not None:
                self._leases.give_up(lease)
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
        """Claim a turn that is driven anyway, unless another worker has it; a store that is lost is logged.

        Returns:
            Whether no other worker has it, as far as can be known.
        """
        if turn.outcome is not None:
            return True
        try:
            return await self._hold(turn, self._now())
        except InferenceError as error:  # as a store does that is lost, or refuses this program since
            logger.warning("%s; the turn goes on, and no other worker can tell", error)
            return True

    async def _hold(self, turn: Turn, until: float | None) -> bool:
        """Claim a turn, as soon as no other worker has it.

        Args:
            turn: The turn.
            until: The loop's time at which to give up, or None.

        Returns:
            Whether it is claimed, or need not be.
        """
        if not self._leases.shared:
            return True
        key = f"{turn.chat_id}:turn:{turn.run.user_message_id}"
        claim = await self._leases.wait(key, self._owner, "turn", until=until)
        if isinstance(claim, Lease):
            self.lease = claim
        return isinstance(claim, Lease)

    async def _let_go(self) -> None:
        """Release the turn's lease."""
        lease, self.lease = self.lease, None
        if lease is not None:
            await lease.release()

    # -- sending ---------------------------------------------------------------------------------------------------

    async def _send(self, text: str, lease: Lease | None = None) -> Turn:
        """Upload the files, connect to the stream of an existing chat, and post the message.

        The stream is opened first so that nothing of the reply is missed.

        Args:
            text: The message.
            lease: The claim to send it, if it has an idempotency key.

        Raises:
            _LostError: Another worker has the claim now; the message was not sent.
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
            await self._note_sending(turn, lease)
        elif self._posted:
            raise StreamError(
                "sending this message was interrupted, and whether it has arrived is not known; "
                "look at the chat before you send it again"
            )
        else:
            self._posted = True
        answer = await (self._api.run(body) if lease is None else self._run_while_held(body, lease))
        user, assistant = (
            structure(answer[name], Message) if answer.get(name) is not None else None
            for name in ("user_message", "assistant_message")
        )
        chat_id = turn.chat_id or (assistant.chat_id if assistant is not None else None)
        if user is None and chat_id and self._owner:  # claims are made under its id
            user = await self._look_up(chat_id, text)
        snapshot = turn.begin(user, assistant, self._now())
        if turn.chat_id is None:
            raise StreamError("the server's answer to the message names no chat, so its reply cannot be found")
        if snapshot is not None:
            self.snapshots.append(snapshot)
        return turn

    async def _run_while_held(self, body: dict[str, Any], lease: Lease) -> Mapping[str, Any]:
        """Post a message that is claimed, unless the claim may be lost by the time at which its bytes are written.

        This process may be stopped, or wait for a connection, for longer than its lease.

        Raises:
            _LostError: It may be; the message was not sent.
        """
        withheld = False

        def may_be_sent() -> bool:
            nonlocal withheld
            withheld = not lease.firm
            self._posted = self._posted or not withheld
            return not withheld

        try:
            return await self._api.run(body, may_be_sent)
        except APIConnectionError:
            if withheld:
                raise _LostError from None
            raise

    async def _look_up(self, chat_id: str, text: str) -> Message | None:
        """Return the message that was just sent, which the response to it has left out; None if it is not found."""
        try:
            newest = await self._newest(chat_id)
        except InferenceError as error:  # it was sent, whatever becomes of this
            logger.warning(
                "chat %s: the id of the message is not known (%s); other workers cannot tell its turn", chat_id, error
            )
            return None
        return max(_with_text(newest, text), key=lambda message: message.order, default=None)

    async def _newest(self, chat_id: str) -> list[Mapping[str, Any]]:
        """Read the newest page of a chat's messages."""
        return await self._api.read_messages(await self._api.read_chat(chat_id), chat_id, lambda _: True)

    # -- sending at most once --------------------------------------------------------------------------------------

    async def _send_once(self, text: str, key: str) -> Turn:
        """Send a message unless it was sent with this key before; then go on with its turn.

        One that was withdrawn before its turn began is sent anew, under the next name that is made of the key.
        """
        withdrawn = 0
        while True:
            name = f"message-{withdrawn}:{key}" if withdrawn else f"message:{key}"
            claim = await self._leases.wait(name, self._owner, MESSAGE)
            try:
                if isinstance(claim, Lease):
                    return await self._send_claimed(text, claim)
                return await self._go_on(_Sent.read(claim.result or ""))
            except _LostError:  # this process was stopped for longer than the lease
                self._connection.close()
            except _WithdrawnError:
                withdrawn += 1

    async def _send_claimed(self, text: str, lease: Lease) -> Turn:
        """Send a message that is claimed, unless the owner before has sent it."""
        in_doubt = bool(lease.result)  # whether the owner before may have sent it
        sent, turn = None, None
        try:
            sent = await self._find_sent(text, lease.result) if lease.result else None
            if sent is None:
                in_doubt = False
                turn = await self._send(text, lease)
                sent = _Sent(turn.chat_id or "", turn.run.user_message_id)
                if not await self.follow(turn):  # this process was stopped after it had sent the message
                    self._connection.close()
                    self.snapshots.clear()
                    turn = None
        except GeneratorExit:
            await lease.abandon()
            raise
        except BaseException as error:
            if sent is not None:
                await lease.settle(sent.written())
            elif not in_doubt and (not self._posted or _not_sent(error)):
                await lease.forget()
            else:
                await lease.release()
            raise
        await lease.settle(sent.written())
        return turn or await self._go_on(sent)

    async def _note_sending(self, turn: Turn, lease: Lease) -> None:
        """Record that a message is about to be sent, and behind which message of the chat it will be.

        Raises:
            _LostError: Another worker has the claim.
            ClaimStoreError: The store is lost, and the program does not go on without it.
        """
        chat_id, after = turn.chat_id, 0
        if chat_id is not None:  # what is known of the chat here may be older than what others have sent
            after = max(map(_order, await self._newest(chat_id)), default=0)
        try:
            held = await lease.record(json.dumps({"chat_id": chat_id, "after": after}))
        except ClaimStoreError as error:
            self._leases.go_on_without(error)
            held = True
        if not held:
            raise _LostError

    async def _find_sent(self, text: str, recorded: str) -> _Sent | None:
        """Return where the message is, if an owner that has died, or lost its connection, has sent it.

        Args:
            text: The message.
            recorded: What that owner has recorded before it sent the message.

        Raises:
            StreamError: It would have begun a chat, so that nobody can tell.
            ClaimStoreError: What is recorded cannot be read.
        """
        with reading_kept():
            noted = json.loads(recorded)
            chat_id, after = noted["chat_id"], noted["after"]
            if not isinstance(chat_id, str | None) or not isinstance(after, int):
                raise TypeError(f"{chat_id!r} and {after!r} are no place in a chat")
        if chat_id is None:
            raise StreamError(
                "an earlier attempt to send this message was interrupted, and whether it has begun a chat cannot be "
                "known: look at the chats of the account, and send it again with another idempotency_key if it has not"
            )
        chat = await self._api.read_chat(chat_id)
        read = await self._api.read_messages(chat, chat_id, lambda message: _order(message) <= after)
        found = [message for message in _with_text(read, text) if message.order > after]
        return _Sent(chat_id, min(found, key=lambda message: message.order).id) if found else None

    # -- attaching -------------------------------------------------------------------------------------------------

    async def _attach(self) -> Turn:
        """Take up the chat's turn that is running or paused; without one, return a finished turn."""
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
        """Attach to the chat's turn once no other worker has it."""
        turn = await self._when_free(self._latest, self._request.wait)
        if turn.outcome is None:
            await self._open(turn)
        return turn

    async def _when_free(self, read: Callable[[], Awaitable[Turn]], wait: float | None = None) -> Turn:
        """Return a turn once no other worker has it, or it is over.

        Args:
            read: Reads the turn; again after another worker had it, because the chat may have changed meanwhile.
            wait: Seconds to wait for it, or None.

        Raises:
            LeaseHeldError: Another worker still has it after that time.
        """
        until = None if wait is None else self._now() + wait
        while True:
            turn = await read()
            if turn.outcome is not None or await self._hold(turn, self._now()):
                return turn
            if not await self._hold(turn, until):
                raise LeaseHeldError(
                    f"another worker still has the lease of the turn after {wait or 0:g} seconds, and goes "
                    "on with it; take it over later if that worker fails"
                )
            await self._let_go()

    async def _go_on(self, sent: _Sent) -> Turn:
        """Attach to the turn of a message that was sent before, once no other worker has it."""
        conversation = self._conversation
        if conversation.chat_id not in (None, sent.chat_id):
            raise ConfigurationError(
                f"a message with this idempotency_key was sent to another chat, {sent.chat_id}: give each message a "
                "key of its own"
            )
        turn = await self._when_free(functools.partial(self._turn_of, sent))
        conversation.begin_turn(turn)
        if turn.outcome is None:
            await self._connection.open(stream_path(sent.chat_id))
            turn.wants_reread = True
        return turn

    async def _latest(self) -> Turn:
        """Read the chat's latest turn; one that neither runs nor is paused has ended."""
        chat_id = self._conversation.require_chat()
        chat = await self._api.read_chat(chat_id)
        messages = await self._api.read_messages(chat, chat_id, lambda message: message.get("role") == Role.USER)
        turn = Turn.latest(chat_id, messages, self._now())
        if not goes_on(chat) and not self._conversation.has_pending_updates:
            turn.outcome = Outcome(End.FINISHED, _last_reply(messages))
        return turn

    async def _turn_of(self, sent: _Sent) -> Turn:
        """Read the turn of a message; one that is not the latest has ended.

        Raises:
            _WithdrawnError: The message was withdrawn before its turn began.
            StreamError: The message is not in the chat any more.
        """
        chat = await self._api.read_chat(sent.chat_id)
        name, value = ("id", sent.message_id) if sent.message_id else ("role", Role.USER)
        read = await self._api.read_messages(chat, sent.chat_id, lambda message: message.get(name) == value)
        user = next((message for message in _users(read) if message.id == sent.message_id), None)
        if user is None and sent.message_id:
            raise StreamError(
                f"the message with this idempotency_key, {sent.message_id}, is not in the chat {sent.chat_id} any "
                "more, so that its reply cannot be told; send it again with another key if that is wanted"
            )
        if user is None:  # its id is not known
            return Turn.latest(sent.chat_id, read, self._now())
        if user.status == MessageStatus.CANCELLED:
            raise _WithdrawnError
        turn = Turn(sent.chat_id)
        turn.begin(user, None, self._now())
        following = [message.order for message in _users(read) if message.order > user.order and has_turn(message)]
        if not following:
            turn.run.settle()  # there is no later turn that the state of the chat could be about
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
    """Where a message is that was sent; the id is "" if the service did not tell it."""

    chat_id: str
    message_id: str

    def written(self) -> str:
        """Return it as a text, for the store of claims."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def read(cls, written: str) -> _Sent:
        """Return what ``written`` returned as a text.

        Raises:
            ClaimStoreError: It cannot be read.
        """
        with reading_kept():
            return cls(**json.loads(written))


class _WithdrawnError(Exception):
    """The message was withdrawn before its turn began, and gets none."""


class _LostError(Exception):
    """Another worker has the claim to send the message."""


def _not_sent(error: BaseException) -> bool:
    """Whether an error says that a message has not reached the service, or was refused there."""
    if isinstance(error, APIError):
        return error.status_code < 500 or error.status_code == 503
    return isinstance(error, _LostError) or (isinstance(error, APIConnectionError) and not error.sent)


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
