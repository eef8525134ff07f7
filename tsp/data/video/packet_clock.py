"""The clock of a container, made continuous where it restarts or jumps (joined transport streams).

In formats whose clock may jump (MPEG-TS, MPEG-PS, Ogg), a jump of more than 10 s, or backwards, is removed: the next
packet follows one packet's duration after the last. Sound is included, so that both stay in sync. Source: ffmpeg's
process_input. In other formats a jump forward is a still picture and is kept; a jump backwards is removed, except in
MP4 and MOV with an index, where an edit list may show an earlier part again: FFmpeg has applied it to the presentation
times.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet

MAX_JUMP_SEC = 10
"""A clock that goes on further away than this has jumped, in formats whose clocks may."""
MAX_STEP_BACK_SEC = Fraction(1, 10)


def has_flag(container: InputContainer, flag: Flags) -> bool:
    """Whether the container's format has it."""
    flags, mask = container.format.flags, cast(int, flag.value)
    return bool(flags & mask)


class Clock:
    """The container's clock, made continuous."""

    def __init__(self, container: InputContainer) -> None:
        self.may_jump = has_flag(container, Flags.ts_discont)
        self._may_be_edited = "mov" in container.format.name.split(",")
        self.notes: list[str] = []
        self.fault = ""
        """Why reading ends before the file does."""
        self.end_sec, self.end_byte = Fraction(0), 0
        self._start_sec = Fraction(container.start_time or 0, 1_000_000)
        self._offset_sec = Fraction(0)
        self._next_sec: dict[int, Fraction] = {}
        self._newest_sec: dict[int, Fraction] = {}

    def offset(self, packet: Packet[Any]) -> int:
        """The offset to add to a packet's times."""
        time_base = packet.time_base
        if not time_base:
            return 0
        if packet.dts is None:
            return round(self._offset_sec / time_base)
        number = packet.stream.index
        now = packet.dts * time_base + self._offset_sec
        due = self._next_sec.get(number)
        is_edited = self._may_be_edited and packet.stream.frames > 0
        if due is not None and not is_edited and self._has_jumped(now, due, self._newest_sec[number]):
            at_sec = float(due - self._start_sec)
            self.notes.append(f"its clock jumps by {float(now - due):+.3f} s at {at_sec:.3f} s; the jump is removed")
            self._offset_sec -= now - due
            now = due
        self._next_sec[number] = now + (packet.duration or 0) * time_base
        self._newest_sec[number] = max(now, self._newest_sec.get(number, now))
        return round(self._offset_sec / time_base)

    def note_end(self, packet: Packet[Any], offset: int) -> None:
        """Remember when the last packet ends; attached pictures have no end and do not count."""
        self.end_byte = max(self.end_byte, (packet.pos or 0) + packet.size)
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is not None and packet.time_base and packet.stream.type in ("video", "audio", "subtitle"):
            self.end_sec = max(self.end_sec, (shown + offset + (packet.duration or 0)) * packet.time_base)

    def _has_jumped(self, now: Fraction, due: Fraction, newest: Fraction) -> bool:
        return now + MAX_STEP_BACK_SEC < newest or (self.may_jump and abs(now - due) > MAX_JUMP_SEC)
