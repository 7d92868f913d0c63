"""A typed line of a conversation: a text to translate, a command after a colon, or a line of a longer text."""

from __future__ import annotations

from seqkit.cli.conversation.commands import command
from seqkit.cli.conversation.showing import print_error
from seqkit.cli.conversation.talk import Conversation
from seqkit.cli.main import common
from seqkit.errors import SeqkitError
from seqkit.files import decode

__all__ = ["FENCE", "answer"]

FENCE = '"""'  # before and after a text of several lines


def answer(conversation: Conversation, line: str) -> None:
    """Translate a line or run its command; errors are printed, not raised. Raises EOFError to end the conversation."""
    try:
        # A terminal may send bytes that are not UTF-8.
        line, _ = decode(line.encode(errors="surrogateescape"))
        if conversation.pending is not None:
            _collect(conversation, line)
        elif line.startswith(FENCE):
            conversation.pending = []
            if rest := line.removeprefix(FENCE).strip():
                _collect(conversation, rest)
        elif line.startswith(":") and not line.startswith("::"):
            name, _, words = line[1:].strip().partition(" ")
            command(name).run(conversation, words.strip())
        elif line.strip():
            conversation.translate([line.removeprefix(":")])
    except EOFError:
        raise
    except SeqkitError as error:
        print_error(error.what, error.hint)
    except Exception as error:  # unlike a command, a conversation goes on after a fault
        if common().debug:
            raise
        what = str(error).strip().partition("\n")[0] or "no message"
        print_error(f"this is a fault of seqkit: {type(error).__name__}: {what}", "with --debug it shows where")


def _collect(conversation: Conversation, line: str) -> None:
    """Add a line to a text of several lines, and translate the text if the line ends it."""
    text, fence, after = line.rstrip().rpartition(FENCE)
    ended = fence != "" and after == ""
    if not ended or text.strip():
        conversation.pending = [*(conversation.pending or []), text if ended else line]
    if ended:
        lines, conversation.pending = conversation.pending or [], None
        if any(line.strip() for line in lines):
            conversation.translate(lines)
