"""`seqkit doctor`: print the installed versions, the machine's resources, and warnings about both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from seqkit.cli.main import common

if TYPE_CHECKING:
    from seqkit.system.doctor import Diagnosis

__all__ = ["command"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The same facts as JSON.")
def command(as_json: bool) -> None:
    """Say what is installed, what this machine offers, and what will get in the way.

    \b
    seqkit doctor
    seqkit doctor --json > machine.json

    All of it can be pasted into a report: it names no user, host or folder of yours, and no value of the environment.
    """
    from seqkit.system.doctor import examine

    report = examine()
    click.echo(_json(report) if as_json else _text(report))
    if not common().quiet and not as_json:
        count = len(report.warnings)
        click.echo(f"{count} warning{'s' * (count != 1)}" if count else "nothing will get in the way", err=True)


def _text(report: Diagnosis) -> str:
    lines = []
    for warning in report.warnings:
        lines += [f"warning: {warning.what}", f"hint: {warning.remedy}", ""]
    for subject, facts in report.facts.items():
        width = max(map(len, facts))
        lines += [subject, *(f"  {name:{width}}  {value}" for name, value in facts.items()), ""]
    return "\n".join(lines[:-1])


def _json(report: Diagnosis) -> str:
    import msgspec

    warnings = [{"what": warning.what, "hint": warning.remedy} for warning in report.warnings]
    return msgspec.json.encode({"warnings": warnings, "facts": report.facts}).decode()
