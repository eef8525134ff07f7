"""The clock of a container, made continuous where it restarts or jumps (joined transport streams).

In formats whose clock may jump (MPEG-TS, MPEG-PS, Ogg), a jump of more than 10 s, or backwards, is removed: the next
packet follows one packet's duration after the last. Sound is included, so that both stay in sync. Source: ffmpeg's
process_input. In other formats a jump forward is a still picture and is kept; a jump backwards is removed, except in
MP4 and MOV with an index, where an edit list may show an earlier part again: FFmpeg has applied it to the presentation
times.

Times are whole numbers of a unit of which every stream's time base is a multiple: with fractions, a scan of all packets
would take longer for them than for reading the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet

MAX_JUMP_SEC = 10
"""A clock that goes on further away than this has jumped, in formats whose clocks may."""
MAX_STEP_BACK_SEC = Fraction(1, 10)
_WITH_END = ("video", "audio", "subtitle")


def has_flag(container: InputContainer, flag: Flags) -> bool:
    """Whether the container's format has it."""
    flags, mask = container.format.flags, cast(int, flag.value)
    return bool(flags & mask)


@dataclass(slots=True)
class _Stream:
    """What is known of one stream; times in the clock's units."""

    unit: int
    """How many of the clock's units the stream's time base is; 0 if it has none."""
    is_edited: bool
    has_end: bool
    offset: int = 0
    """The clock's offset in the stream's time base, rounded."""
    due: int | None = None
    newest: int = 0


class Clock:
    """The container's clock, made continuous."""

    def __init__(self, container: InputContainer) -> None:
        self.may_jump = has_flag(container, Flags.ts_discont)
        self._may_be_edited = "mov" in container.format.name.split(",")
        self.notes: list[str] = []
        self.fault = ""
        """Why reading ends before the file does."""
        self.end_byte = 0
        self._start_sec = Fraction(container.start_time or 0, 1_000_000)
        self._units_per_sec = MAX_STEP_BACK_SEC.denominator
        self._offset = self._end = 0
        self._streams: dict[int, _Stream] = {}

    @property
    def end_sec(self) -> Fraction:
        """When the last packet of any stream ends."""
        return Fraction(self._end, self._units_per_sec)

    def offset(self, packet: Packet[Any]) -> int:
        """The offset to add to a packet's times."""
        stream = self._stream(packet)
        if packet.dts is None or not stream.unit:
            return stream.offset
        now = packet.dts * stream.unit + self._offset
        if stream.due is None:
            stream.newest = now
        elif not stream.is_edited and self._has_jumped(now, stream.due, stream.newest):
            self._close_jump(now, stream.due)
            now = stream.due
        stream.due = now + (packet.duration or 0) * stream.unit
        if now > stream.newest:
            stream.newest = now
        return stream.offset

    def note_end(self, packet: Packet[Any], offset: int) -> None:
        """Remember when the last packet ends; attached pictures have no end and do not count."""
        end_byte = (packet.pos or 0) + packet.size
        if end_byte > self.end_byte:
            self.end_byte = end_byte
        stream = self._stream(packet)
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is not None and stream.has_end:
            end = (shown + offset + (packet.duration or 0)) * stream.unit
            if end > self._end:
                self._end = end

    def _stream(self, packet: Packet[Any]) -> _Stream:
        return self._streams.get(packet.stream.index) or self._add(packet)

    def _add(self, packet: Packet[Any]) -> _Stream:
        time_base, of = packet.time_base or Fraction(0), packet.stream
        finer = math.lcm(self._units_per_sec, time_base.denominator) // self._units_per_sec
        if finer > 1:
            self._refine(finer)
        stream = _Stream(
            unit=int(time_base * self._units_per_sec),
            is_edited=self._may_be_edited and of.frames > 0,
            has_end=bool(time_base) and of.type in _WITH_END,
        )
        self._streams[of.index] = stream
        self._round_offset(stream)
        return stream

    def _refine(self, by: int) -> None:
        """Divide the unit."""
        self._units_per_sec *= by
        self._offset *= by
        self._end *= by
        for stream in self._streams.values():
            stream.unit *= by
            stream.newest *= by
            stream.due = None if stream.due is None else stream.due * by

    def _has_jumped(self, now: int, due: int, newest: int) -> bool:
        if now + self._units_per_sec // MAX_STEP_BACK_SEC.denominator < newest:
            return True
        return self.may_jump and abs(now - due) > MAX_JUMP_SEC * self._units_per_sec

    def _close_jump(self, now: int, due: int) -> None:
        jump_sec = (now - due) / self._units_per_sec
        at_sec = float(Fraction(due, self._units_per_sec) - self._start_sec)
        self.notes.append(f"its clock jumps by {jump_sec:+.3f} s at {at_sec:.3f} s; the jump is removed")
        self._offset -= now - due
        for stream in self._streams.values():
            self._round_offset(stream)

    def _round_offset(self, stream: _Stream) -> None:
        stream.offset = round(Fraction(self._offset, stream.unit)) if stream.unit else 0
