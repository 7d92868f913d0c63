"""What is typed in a conversation, and what it means: a text, a command behind a colon, or a part of a long text."""

from __future__ import annotations

from seqkit.cli.conversation.commands import command
from seqkit.cli.conversation.showing import tell
from seqkit.cli.conversation.talk import Conversation
from seqkit.cli.main import common
from seqkit.errors import SeqkitError
from seqkit.files import decode

__all__ = ["FENCE", "answer"]

FENCE = '"""'  # around several lines


def answer(conversation: Conversation, line: str) -> None:
    """Translate a line, or do what it commands; what goes wrong is told, never raised. EOFError means: leave."""
    try:
        # A terminal may send bytes that are no UTF-8.
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
        tell(error.what, error.hint)
    except Exception as error:  # what was said so far is worth more than the end that this would be to a command
        if common().debug:
            raise
        what = str(error).strip().partition("\n")[0] or "no message"
        tell(f"this is a fault of seqkit: {type(error).__name__}: {what}", "with --debug it shows where")


def _collect(conversation: Conversation, line: str) -> None:
    text, fence, after = line.rstrip().rpartition(FENCE)
    ended = fence != "" and after == ""
    if not ended or text.strip():
        conversation.pending = [*(conversation.pending or []), text if ended else line]
    if ended:
        lines, conversation.pending = conversation.pending or [], None
        if any(each.strip() for each in lines):
            conversation.translate(lines)
